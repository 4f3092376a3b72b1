//! A folder, copied as it stands: one file system's tree, its mount points empty.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, copy_file_range, open, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, ftruncate, lseek};

use super::meta::{Meta, Node};
use super::stream::Watch;
use super::tree::{Tree, identity};
use crate::error::{Error, Kind, Result};
use crate::sys::path::{c_string, open_in_same_mount};
use crate::sys::{fds, xattr};

/// What one call copies, so that an interruption is seen in between.
const PIECE: u64 = 8 << 20;

/// Copies what is in a folder into another: hard links, symbolic links, attributes, owners,
/// modes, times, holes, devices and pipes. What is mounted in it stays out.
pub fn copy_tree(from: &Path, to: &Path, watch: &Watch<'_>) -> Result<Vec<String>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root =
        open(from, flags, Mode::empty()).map_err(|errno| Error::path_call("open", from, errno))?;
    let tree = Tree::in_folder(to)?;
    let own = identity(tree.root()).map_err(|errno| Error::path_call("fstat", to, errno))?;
    let linked = HashMap::new();
    let mut copy = Copy { from, root, own, tree, linked, watch, reflink: true };
    let mut folders = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        copy.folder(&folder, &mut folders)?;
    }
    copy.tree.finish()
}

struct Copy<'a, 'b> {
    from: &'a Path,
    root: OwnedFd,
    own: (u64, u64),
    tree: Tree,
    /// The first name of every file that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    watch: &'a Watch<'b>,
    reflink: bool,
}

impl Copy<'_, '_> {
    fn folder(&mut self, path: &[u8], inside: &mut Vec<Vec<u8>>) -> Result<()> {
        let opened = self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let folder = match opened {
            // A mount point: what is mounted there is another tree.
            Err(Errno::EXDEV) => {
                return self.add(path, &Node::Folder, Meta::with_mode(0o755), |_| Ok(()));
            }
            opened => opened.map_err(|errno| self.failed("open", path, errno))?,
        };
        let stat = fstat(&folder).map_err(|errno| self.failed("fstat", path, errno))?;
        if (stat.st_dev, stat.st_ino) == self.own {
            let message = format!("cannot copy {:?} into itself", self.from.display());
            return Err(Error::new(Kind::Other, message));
        }
        let xattrs = tolerated(xattr::all(&folder));
        let meta = meta(&stat, xattrs.map_err(|errno| self.failed("listxattr", path, errno))?);
        self.add(path, &Node::Folder, meta, |_| Ok(()))?;
        let mut listing = folder
            .try_clone()
            .map_err(|_| Errno::EMFILE)
            .and_then(Dir::from_fd)
            .map_err(|errno| self.failed("readdir", path, errno))?;
        for entry in listing.iter() {
            let entry = entry.map_err(|errno| self.failed("readdir", path, errno))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.check(path)?;
            let below = match path {
                [] => name.to_bytes().to_vec(),
                _ => [path, b"/", name.to_bytes()].concat(),
            };
            let stat = fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| self.failed("fstatat", &below, errno))?;
            match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
                SFlag::S_IFDIR => inside.push(below),
                kind => self.entry(&folder, name.to_owned(), below, &stat, kind)?,
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: &OwnedFd,
        name: CString,
        path: Vec<u8>,
        stat: &FileStat,
        kind: SFlag,
    ) -> Result<()> {
        let file = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&file) {
                let node = Node::HardLink(first.clone());
                return self.add(&path, &node, meta(stat, Vec::new()), |_| Ok(()));
            }
            self.linked.insert(file, path.clone());
        }
        let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
        let node = match kind {
            SFlag::S_IFREG => return self.file(&path),
            SFlag::S_IFLNK => Node::Symlink(
                readlinkat(folder, name.as_c_str())
                    .map_err(|errno| self.failed("readlinkat", &path, errno))?
                    .into_vec(),
            ),
            SFlag::S_IFCHR => Node::CharDevice(major, minor),
            SFlag::S_IFBLK => Node::BlockDevice(major, minor),
            SFlag::S_IFIFO => Node::Fifo,
            _ => Node::Socket,
        };
        let xattrs = tolerated(xattr::all_at(folder, &name))
            .map_err(|errno| self.failed("listxattr", &path, errno))?;
        self.add(&path, &node, meta(stat, xattrs), |_| Ok(()))
    }

    fn file(&mut self, path: &[u8]) -> Result<()> {
        // O_NONBLOCK: were it swapped for a pipe since, opening it must not wait for a writer.
        let from = match self.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            // A file that is a mount point, as /etc/resolv.conf in a container.
            Err(Errno::EXDEV) => {
                return self.add(path, &Node::File, Meta::with_mode(0o644), |_| Ok(()));
            }
            opened => opened.map_err(|errno| self.failed("open", path, errno))?,
        };
        let stat = fstat(&from).map_err(|errno| self.failed("fstat", path, errno))?;
        let xattrs =
            tolerated(xattr::all(&from)).map_err(|errno| self.failed("listxattr", path, errno))?;
        let (watch, reflink) = (self.watch, &mut self.reflink);
        let whole = self.from.join(std::ffi::OsString::from_vec(path.to_vec()));
        let failed = |error: std::io::Error| Error::io("copy", &whole, &error);
        let fill = |to: &OwnedFd| content(&from, to, &stat, reflink, watch).map_err(failed);
        self.tree.add(path, &Node::File, meta(&stat, xattrs), fill)
    }

    fn add(
        &mut self,
        path: &[u8],
        node: &Node,
        meta: Meta,
        fill: impl FnOnce(&OwnedFd) -> Result<()>,
    ) -> Result<()> {
        self.tree.add(if path.is_empty() { b"." } else { path }, node, meta, fill)
    }

    fn open(&self, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        let path = if path.is_empty() { c".".to_owned() } else { c_string(path)? };
        open_in_same_mount(&self.root, &path, flags | OFlag::O_NOFOLLOW)
    }

    fn check(&mut self, path: &[u8]) -> Result<()> {
        self.watch.check().map_err(|error| {
            Error::io("copy", self.from.join(String::from_utf8_lossy(path).as_ref()), &error)
        })
    }

    fn failed(&self, call: &str, path: &[u8], errno: Errno) -> Error {
        let path = std::ffi::OsString::from_vec(path.to_vec());
        Error::path_call(call, self.from.join(path), errno)
    }
}

/// All blocks shared where the file system can, else piece by piece around the holes.
fn content(
    from: &OwnedFd,
    to: &OwnedFd,
    stat: &FileStat,
    reflink: &mut bool,
    watch: &Watch<'_>,
) -> std::io::Result<()> {
    if stat.st_size == 0 {
        return Ok(());
    }
    if *reflink {
        match fds::share_blocks(from, to) {
            Ok(()) => return Ok(()),
            // It will not do so for the next file either.
            Err(Errno::EOPNOTSUPP | Errno::EXDEV | Errno::ENOTTY | Errno::EINVAL) => {
                *reflink = false;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    let sparse = stat.st_blocks * 512 < stat.st_size;
    let mut at = 0;
    while at < stat.st_size {
        let (start, end) = if sparse {
            match lseek(from, at, Whence::SeekData) {
                Ok(start) => (start, lseek(from, start, Whence::SeekHole)?),
                // Nothing but a hole is left.
                Err(Errno::ENXIO) => break,
                Err(errno) => return Err(errno.into()),
            }
        } else {
            (at, stat.st_size)
        };
        copy_piece(from, to, start, end, watch)?;
        at = end;
    }
    if sparse {
        ftruncate(to, stat.st_size)?
    }
    Ok(())
}

fn copy_piece(
    from: &OwnedFd,
    to: &OwnedFd,
    mut start: i64,
    end: i64,
    watch: &Watch<'_>,
) -> std::io::Result<()> {
    while start < end {
        watch.check()?;
        let length = (end - start).min(PIECE as i64) as usize;
        let (mut out, mut into) = (start, start);
        match copy_file_range(from.as_fd(), Some(&mut out), to.as_fd(), Some(&mut into), length) {
            // It became shorter meanwhile.
            Ok(0) => break,
            Ok(copied) => start += copied as i64,
            Err(Errno::EINTR) => {}
            // Not between these two file systems, or not from this one.
            Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                return copy_by_hand(from, to, start, end, watch);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(
    from: &OwnedFd,
    to: &OwnedFd,
    mut start: i64,
    end: i64,
    watch: &Watch<'_>,
) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let (from, to) = (File::from(from.try_clone()?), File::from(to.try_clone()?));
    let mut block = vec![0; 128 * 1024];
    while start < end {
        watch.check()?;
        let length = block.len().min((end - start) as usize);
        match from.read_at(&mut block[..length], start as u64)? {
            0 => break,
            read => {
                to.write_all_at(&block[..read], start as u64)?;
                start += read as i64;
            }
        }
    }
    Ok(())
}

/// A file system without attributes has none.
fn tolerated(found: nix::Result<Vec<(CString, Vec<u8>)>>) -> nix::Result<Vec<(CString, Vec<u8>)>> {
    match found {
        Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
        found => found,
    }
}

fn meta(stat: &FileStat, xattrs: Vec<(CString, Vec<u8>)>) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: Some(TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)),
        accessed: Some(TimeSpec::new(stat.st_atime, stat.st_atime_nsec)),
        xattrs: Vec::new(),
    }
    .with_xattrs(xattrs)
}
