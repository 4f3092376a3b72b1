//! Reads tar streams: POSIX ustar and pax, GNU's formats, the old one.
//!
//! The stream is hostile: every length is bounded before anything is allocated for it, every
//! number is checked, and a stream that stops early is an error, for a producer that died is
//! not a file system. What an entry's names may do is not decided here.

mod header;
mod pax;
mod sparse;

use std::io::BufRead;

use nix::sys::time::TimeSpec;

use super::meta::{Meta, Node};
use crate::error::{Error, Kind, Result};
use crate::sys::path::c_string;
use header::{BLOCK, Header};
use pax::Records;
use sparse::Sparse;

/// Names and attributes of one entry are no larger than this; the kernel takes less.
const LARGEST_EXTENSION: u64 = 1 << 20;

/// One entry, its data still in the stream.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where its first header starts.
    pub(super) offset: u64,
    /// Its name as it stands in the archive.
    pub(super) path: Vec<u8>,
    pub(super) node: Node,
    pub(super) meta: Meta,
    /// The size of a file, holes counted.
    pub(super) size: u64,
    sparse: Option<Sparse>,
}

/// A tar stream, read from front to back once.
pub(super) struct Archive<R> {
    source: R,
    position: u64,
    /// Of the current entry's data, and of the padding after it.
    unread: (u64, u64),
    globals: Records,
}

/// The headers that describe the next one.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    own: Records,
}

impl<R: BufRead> Archive<R> {
    pub(super) fn new(source: R) -> Self {
        Archive { source, position: 0, unread: (0, 0), globals: Records::default() }
    }

    /// The next entry; none at the archive's end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        self.skip(self.unread.0 + self.unread.1)?;
        self.unread = (0, 0);
        let offset = self.position;
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header(offset)? else { return Ok(None) };
            let text = |archive: &mut Self| -> Result<Option<Vec<u8>>> {
                let body = archive.extension(&header)?;
                Ok(Some(header::until_nul(&body).to_vec()))
            };
            match header.letter() {
                b'L' => extensions.path = text(self)?,
                b'K' => extensions.link = text(self)?,
                b'x' | b'X' => extensions.own = Records::parse(&self.extension(&header)?)?,
                b'g' => {
                    let globals = Records::parse(&self.extension(&header)?)?;
                    self.globals = self.globals.overlaid(globals).bounded(LARGEST_EXTENSION)?;
                }
                // The volume's label says nothing about the files.
                b'V' => {}
                _ => return self.entry(offset, &header, extensions).map(Some),
            }
        }
    }

    /// Hands a file's data to `write` in the stream's own blocks, each with its place.
    pub(super) fn data(
        &mut self,
        entry: &Entry,
        mut write: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let whole = [(0, self.unread.0)];
        let extents = entry.sparse.as_ref().map_or(&whole[..], |sparse| &sparse.extents);
        for &(start, length) in extents {
            let mut written = 0;
            while written < length {
                let block = self.filled()?;
                let block = &block[..block.len().min((length - written) as usize)];
                let taken = block.len();
                write(start + written, block)?;
                self.consume(taken);
                self.unread.0 -= taken as u64;
                written += taken as u64;
            }
        }
        Ok(())
    }

    /// Reads what follows the archive, so that whoever writes it is not killed by SIGPIPE and
    /// checksums at the end of a compressed stream are compared.
    pub(super) fn drain(mut self) -> Result<()> {
        loop {
            match self.source.fill_buf().map_err(|error| read_error(&error))?.len() {
                0 => return Ok(()),
                length => self.consume(length),
            }
        }
    }

    fn entry(&mut self, offset: u64, header: &Header, extensions: Extensions) -> Result<Entry> {
        let records = self.globals.overlaid(extensions.own);
        let either = |key, gnu: Option<Vec<u8>>, plain: Vec<u8>| match records.get(key) {
            Some(value) => value.to_vec(),
            None => gnu.unwrap_or(plain),
        };
        let mut path = either("path", extensions.path, header.path());
        let link = either("linkpath", extensions.link, header.link());
        let node = node(header, &path, link)?;
        let mut size = 0;
        let mut sparse = None;
        if node == Node::File {
            let stored = records.number("size")?.map_or_else(|| header.size(), Ok)?;
            self.unread = (stored, stored.wrapping_neg() % BLOCK as u64);
            sparse = self.sparse(header, &records)?;
            size = sparse.as_ref().map_or(stored, |sparse| sparse.size);
            if let Some(name) = records.get("GNU.sparse.name") {
                path = name.to_vec();
            }
        }
        Ok(Entry { offset, path, node, meta: meta(header, &records)?, size, sparse })
    }

    /// The next header; none for the block of zeros that ends an archive.
    fn header(&mut self, start: u64) -> Result<Option<Header>> {
        let block = self.block()?;
        match Header::new(block) {
            Some(header) => Ok(Some(header)),
            None if block.iter().all(|byte| *byte == 0) && start + 512 == self.position => Ok(None),
            None if self.position == BLOCK as u64 => Err(not_a_tar(&block)),
            None => Err(Error::new(
                Kind::Other,
                format!("the header at byte {} is damaged", self.position - BLOCK as u64),
            )),
        }
    }

    /// The body of a header that extends the next one.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.size()?;
        if size > LARGEST_EXTENSION {
            let message =
                format!("its extended header claims {size} bytes, over the 1 MiB allowed");
            return Err(Error::new(Kind::Other, message));
        }
        let mut body = vec![0; size as usize];
        self.read_exact(&mut body)?;
        self.skip(size.wrapping_neg() % BLOCK as u64)?;
        Ok(body)
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.read_exact(&mut block)?;
        Ok(block)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.source.read_exact(buffer) {
            Ok(()) => self.position += buffer.len() as u64,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(truncated(self.position));
            }
            Err(error) => return Err(read_error(&error)),
        }
        Ok(())
    }

    fn skip(&mut self, mut length: u64) -> Result<()> {
        while length > 0 {
            let taken = self.filled()?.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            self.consume(taken);
            length -= taken as u64;
        }
        Ok(())
    }

    fn filled(&mut self) -> Result<&[u8]> {
        let position = self.position;
        match self.source.fill_buf() {
            Ok([]) => Err(truncated(position)),
            Ok(block) => Ok(block),
            Err(error) => Err(read_error(&error)),
        }
    }

    fn consume(&mut self, length: usize) {
        self.source.consume(length);
        self.position += length as u64;
    }
}

fn node(header: &Header, path: &[u8], link: Vec<u8>) -> Result<Node> {
    Ok(match header.letter() {
        // Before POSIX a folder was told by the slash at its name's end.
        b'\0' | b'0' if path.ends_with(b"/") => Node::Folder,
        b'\0' | b'0' | b'7' | b'S' => Node::File,
        b'1' => Node::HardLink(link),
        b'2' => Node::Symlink(link),
        b'3' => header.device().map(|(major, minor)| Node::CharDevice(major, minor))?,
        b'4' => header.device().map(|(major, minor)| Node::BlockDevice(major, minor))?,
        b'5' => Node::Folder,
        b'6' => Node::Fifo,
        letter => {
            let letter = char::from(letter).escape_default();
            return Err(Error::new(Kind::Other, format!("an entry of unknown type '{letter}'")));
        }
    })
}

fn meta(header: &Header, records: &Records) -> Result<Meta> {
    let id = |key, plain: Result<i64>, what: &str| -> Result<u32> {
        let id = match records.number(key)? {
            Some(id) => id as i64,
            None => plain?,
        };
        // The largest number means "do not change" to chown(2): the file would stay the caller's.
        u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
            Error::new(Kind::Other, format!("its {what} {id} is not between 0 and 4294967294"))
        })
    };
    let time = |(seconds, nanoseconds)| TimeSpec::new(seconds, nanoseconds);
    let mut xattrs = Vec::new();
    for (key, value) in records.iter() {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            let name = c_string(name)
                .map_err(|_| Error::new(Kind::Other, "an attribute's name has a NUL in it"))?;
            xattrs.push((name, value.to_vec()));
        }
    }
    Ok(Meta {
        mode: header.mode()?,
        uid: id("uid", header.uid(), "owner")?,
        gid: id("gid", header.gid(), "group")?,
        modified: Some(match records.time("mtime")? {
            Some(modified) => time(modified),
            None => time((header.modified()?, 0)),
        }),
        accessed: records.time("atime")?.map(time),
        xattrs: Vec::new(),
    }
    .with_xattrs(xattrs))
}

fn truncated(position: u64) -> Error {
    Error::new(Kind::Other, format!("the archive is truncated: it ends at byte {position}"))
        .hint("whatever wrote it stopped early; an archive ends with two blocks of zeros")
}

fn read_error(error: &std::io::Error) -> Error {
    Error::new(Kind::Other, error.to_string())
}

/// What the first block of something that is no tar archive looks like.
fn not_a_tar(block: &[u8; BLOCK]) -> Error {
    const KNOWN: [(&[u8], &str); 13] = [
        (b"\xfd7zXZ\0", "xz; give it through `xz -dc`"),
        (b"BZh", "bzip2; give it through `bzip2 -dc`"),
        (b"\x04\x22\x4d\x18", "lz4; give it through `lz4 -dc`"),
        (b"]\0\0", "lzma; give it through `xz -dc`"),
        (b"PK\x03\x04", "a zip archive"),
        (b"PK\x05\x06", "a zip archive"),
        (b"hsqs", "a squashfs image; mount it and give the folder"),
        (b"07070", "a cpio archive"),
        (b"QFI\xfb", "a disk image (qcow2)"),
        (b"\x7fELF", "a program (ELF)"),
        (b"{", "JSON"),
        (b"#!", "a script"),
        (b"<", "a web page"),
    ];
    let known = KNOWN.iter().find(|(magic, _)| block.starts_with(magic));
    let message = match known {
        Some((_, name)) => format!("this is not a tar archive; it looks like {name}"),
        None => {
            let start = block[..16].escape_ascii();
            format!("this is not a tar archive; it starts with \"{start}\"")
        }
    };
    Error::new(Kind::Other, message)
}
