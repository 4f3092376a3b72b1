//! A tar stream, unpacked into a folder.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::uio::pwrite;
use nix::unistd::ftruncate;

use super::stream::{Blocks, Source, Watch, decoded};
use super::tar::{Archive, Entry};
use super::tree::{Tree, at};
use crate::error::{Error, Kind, Result};
use crate::sys::path::{c_string, open_in};

/// Unpacks a stream, plain or compressed with gzip or zstd, into a folder that is there.
///
/// Nothing is written outside the folder, whatever the archive says. As root, owners, devices
/// and attributes are made as recorded; an ordinary user's files stay the user's own, and the
/// answer says what was left out. On an error the folder is left as it is, for the caller to
/// remove.
pub fn unpack(source: Source, destination: &Path, watch: &Watch<'_>) -> Result<Vec<String>> {
    let tree = Tree::in_folder(destination)?;
    decoded(source, watch, |blocks| unpack_plain(Archive::new(blocks), tree))
}

fn unpack_plain(mut archive: Archive<Blocks<'_>>, mut tree: Tree) -> Result<Vec<String>> {
    let mut last = None;
    loop {
        // Between two entries it is the one before that the stream stopped in.
        let entry = archive.next().map_err(|error| match &last {
            Some(name) => error.context(format_args!("after entry {name}")),
            None => error,
        })?;
        let Some(entry) = entry else { break };
        let name = format!("\"{}\" at byte {}", entry.path.escape_ascii(), entry.offset);
        add(&mut archive, &mut tree, &entry)
            .map_err(|error| error.context(format_args!("entry {name}")))?;
        last = Some(name);
    }
    if last.is_none() {
        return Err(Error::new(Kind::Other, "the archive has no entries"));
    }
    refuse_image(&tree)?;
    archive.drain()?;
    tree.finish()
}

fn add(archive: &mut Archive<Blocks<'_>>, tree: &mut Tree, entry: &Entry) -> Result<()> {
    tree.add(&entry.path, &entry.node, entry.meta.clone(), |file| {
        let mut end = 0;
        archive.data(entry, |start, data| {
            write_at(file, start, data).map_err(|errno| at("write", &entry.path, errno))?;
            end = start + data.len() as u64;
            Ok(())
        })?;
        if end < entry.size {
            // A hole at the end is no data to write.
            ftruncate(file, entry.size as i64)
                .map_err(|errno| at("ftruncate", &entry.path, errno))?;
        }
        Ok(())
    })
}

fn write_at(file: &std::os::fd::OwnedFd, mut start: u64, mut data: &[u8]) -> nix::Result<()> {
    while !data.is_empty() {
        match pwrite(file, data, start as i64) {
            Ok(written) => {
                start += written as u64;
                data = &data[written..];
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A saved image is a tar archive too, of layers: nothing in it could be run.
fn refuse_image(tree: &Tree) -> Result<()> {
    let has = |name: &str| -> Result<bool> {
        let name = c_string(name.as_bytes()).map_err(|errno| at("openat2", b"", errno))?;
        Ok(open_in(tree.root(), &name, OFlag::O_PATH | OFlag::O_NOFOLLOW).is_ok())
    };
    let any = |names: &[&str]| names.iter().try_fold(false, |found, name| Ok(found || has(name)?));
    let image = any(&["manifest.json", "index.json", "oci-layout", "repositories"])?;
    if !image || any(&["bin", "sbin", "usr", "etc", "lib", "dev", "proc"])? {
        return Ok(());
    }
    Err(Error::new(
        Kind::Other,
        "this is an image archive, as `docker save` writes it, and not a file system",
    )
    .hint("use `docker export` of a container: `docker export $(docker create IMAGE)`"))
}
