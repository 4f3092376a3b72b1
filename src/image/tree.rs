//! Builds a file tree below one descriptor, from names that an enemy may have chosen.
//!
//! A name is resolved as it would be inside the container: symbolic links in the middle of it
//! lead where they lead with the tree as `/`, and the last part is never followed. Nothing is
//! remembered of a name but the descriptor it led to, so a link that is swapped in later is
//! found by the kernel and not by a check of ours (CVE-2018-15664, CVE-2021-32760).
//!
//! Folders get their mode, owner and times at the very end: until then they are the builder's,
//! open to nobody else, so that a read-only folder can be filled, its time stays as recorded,
//! and nobody on the host reaches a setuid program before the tree is complete.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, makedev, mkdirat, mknodat};
use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

use super::meta::{Meta, Node};
use super::remove::remove_below;
use crate::error::{Error, Kind, Result};
use crate::sys::path::{c_string, open_in};
use crate::sys::xattr;

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);

/// A tree that is being built.
pub(super) struct Tree {
    root: OwnedFd,
    /// Root's owners and devices are made as they are; an ordinary user's files stay the user's.
    privileged: bool,
    own: (u32, u32),
    /// The folder that the last name was in: names come folder by folder.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// What folders get at the end, by name.
    folders: BTreeMap<Vec<u8>, Meta>,
    /// Hard links that came before their target.
    early: Vec<(Vec<u8>, Vec<u8>)>,
    skipped: Skipped,
}

/// What an ordinary user, or a simple file system, cannot have.
#[derive(Default)]
struct Skipped {
    devices: Vec<String>,
    xattrs: Vec<String>,
}

impl Tree {
    /// Builds in a folder that is there.
    pub(super) fn in_folder(path: &Path) -> Result<Tree> {
        let root = open(path, OFlag::O_RDONLY | FOLDER, Mode::empty())
            .map_err(|errno| Error::path_call("open", path, errno))?;
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        // A setgid folder would give its group to everything in it.
        fchown(&root, None, Some(Gid::from_raw(own.1)))
            .and_then(|()| fchmod(&root, mode(0o700)))
            .map_err(|errno| Error::path_call("fchmod", path, errno))?;
        let mut folders = BTreeMap::new();
        folders.insert(Vec::new(), Meta { uid: own.0, gid: own.1, ..Meta::with_mode(0o755) });
        let privileged = own.0 == 0;
        Ok(Tree {
            root,
            privileged,
            own,
            last: None,
            folders,
            early: Vec::new(),
            skipped: Skipped::default(),
        })
    }

    /// The tree's own folder.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Makes one entry; a file's content is written by `fill`.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        node: &Node,
        meta: Meta,
        fill: impl FnOnce(&OwnedFd) -> Result<()>,
    ) -> Result<()> {
        let path = checked(path)?;
        if path.is_empty() {
            if *node != Node::Folder {
                return Err(Error::new(Kind::Other, "the root of a tree can only be a folder"));
            }
            self.folders.insert(path, meta);
            return Ok(());
        }
        let (folder, name) = split(&path);
        self.enter(folder)?;
        let name = text(name)?;
        match node {
            Node::Folder => self.folder(path, &name, meta),
            Node::File => self.file(&path, &name, &meta, fill),
            Node::HardLink(target) => self.hard_link(
                &path,
                &name,
                checked(target).map_err(|error| {
                    error.context(format_args!("hard link to \"{}\"", target.escape_ascii()))
                })?,
            ),
            // A socket is nothing without its listener; it is left out, as tar leaves it out.
            Node::Socket => Ok(()),
            _ => self.special(&path, &name, node, &meta),
        }
    }

    /// Gives the folders what was kept for the end. Says what could not be had.
    pub(super) fn finish(mut self) -> Result<Vec<String>> {
        for (path, target) in std::mem::take(&mut self.early) {
            let (folder, name) = split(&path);
            self.enter(folder)?;
            let failed = |errno| link_error(&path, &target, errno);
            match self.link_to(&target, &text(name)?) {
                // Something of that name came after the link, and the last one stays.
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        // Backwards, the folders inside come before the one around them, which may close itself.
        for (path, meta) in std::mem::take(&mut self.folders).into_iter().rev() {
            match self.open_folder(&path) {
                Ok(folder) => self.dress(&folder, &path, &meta)?,
                // Replaced under another name: a link on the way leads to what took its place.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(at("open", &path, errno)),
            }
        }
        Ok(self.skipped.told())
    }

    fn open_folder(&self, path: &[u8]) -> nix::Result<OwnedFd> {
        if path.is_empty() {
            return open_in(&self.root, c".", OFlag::O_RDONLY | FOLDER);
        }
        open_in(&self.root, &c_string(path)?, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | FOLDER)
    }

    /// The folder that [`Tree::enter`] found.
    fn here(&self) -> &OwnedFd {
        self.last.as_ref().map_or(&self.root, |(_, folder)| folder)
    }

    /// Goes into a folder, making what is missing of it.
    fn enter(&mut self, folder: &[u8]) -> Result<()> {
        if folder.is_empty() {
            self.last = None;
            return Ok(());
        }
        if self.last.as_ref().is_some_and(|(path, _)| path == folder) {
            return Ok(());
        }
        let opened = match self.resolve(folder) {
            Err(Errno::ENOENT) => self.make_folders(folder)?,
            opened => opened.map_err(|errno| at("openat2", folder, errno))?,
        };
        self.last = Some((folder.to_vec(), opened));
        Ok(())
    }

    fn resolve(&self, folder: &[u8]) -> nix::Result<OwnedFd> {
        open_in(&self.root, &c_string(folder)?, OFlag::O_PATH | FOLDER)
    }

    /// Each part is resolved from the root anew, so that a link on the way keeps its meaning.
    fn make_folders(&mut self, folder: &[u8]) -> Result<OwnedFd> {
        self.last = None;
        let ends = folder.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([folder.len()]).collect::<Vec<_>>() {
            let (prefix, name) = (&folder[..end], text(split(&folder[..end]).1)?);
            let opened = match self.resolve(prefix) {
                Err(Errno::ENOENT) => match mkdirat(self.here(), name.as_c_str(), mode(0o700)) {
                    Ok(()) => {
                        let (uid, gid) = self.own;
                        let meta = Meta { uid, gid, ..Meta::with_mode(0o755) };
                        self.folders.insert(prefix.to_vec(), meta);
                        self.resolve(prefix)
                    }
                    // A symbolic link that leads nowhere: making what it names is not ours.
                    Err(Errno::EEXIST) => Err(Errno::ENOENT),
                    Err(errno) => return Err(at("mkdirat", prefix, errno)),
                },
                opened => opened,
            };
            let opened = opened.map_err(|errno| at("openat2", prefix, errno))?;
            self.last = Some((prefix.to_vec(), opened));
        }
        self.here().try_clone().map_err(|error| Error::io("dup", "folder", &error))
    }

    fn folder(&mut self, path: Vec<u8>, name: &CStr, meta: Meta) -> Result<()> {
        let make = |tree: &Tree| mkdirat(tree.here(), name, mode(0o700));
        match make(self) {
            Err(Errno::EEXIST) if self.is_folder(name) => {}
            Err(Errno::EEXIST) => {
                self.replace(&path, name)?;
                make(self).map_err(|errno| at("mkdirat", &path, errno))?;
            }
            made => made.map_err(|errno| at("mkdirat", &path, errno))?,
        }
        self.folders.insert(path, meta);
        Ok(())
    }

    fn file(
        &mut self,
        path: &[u8],
        name: &CStr,
        meta: &Meta,
        fill: impl FnOnce(&OwnedFd) -> Result<()>,
    ) -> Result<()> {
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let make = |tree: &Tree| openat(tree.here(), name, flags, mode(0o600));
        let file = match make(self) {
            Err(Errno::EEXIST) => {
                self.replace(path, name)?;
                make(self)
            }
            made => made,
        };
        let file = file.map_err(|errno| at("openat", path, errno))?;
        fill(&file)?;
        self.dress(&file, path, meta)
    }

    fn hard_link(&mut self, path: &[u8], name: &CStr, target: Vec<u8>) -> Result<()> {
        let failed = |errno| link_error(path, &target, errno);
        match self.link_to(&target, name) {
            Err(Errno::ENOENT) => self.early.push((path.to_vec(), target)),
            Err(Errno::EEXIST) => {
                // The two names may be one file already, and must not be taken away then.
                let there = self.stat(name).map_err(failed)?;
                let wanted = self.stat_path(&target).map_err(failed)?;
                if (there.st_dev, there.st_ino) != (wanted.st_dev, wanted.st_ino) {
                    self.replace(path, name)?;
                    self.enter(split(path).0)?;
                    self.link_to(&target, name).map_err(failed)?;
                }
            }
            linked => linked.map_err(failed)?,
        }
        Ok(())
    }

    /// Without AT_SYMLINK_FOLLOW, a link to a symbolic link is one more name of the link itself.
    fn link_to(&self, target: &[u8], name: &CStr) -> nix::Result<()> {
        let (folder, base) = split(target);
        let from = self.folder_of(folder)?;
        linkat(from, c_string(base)?.as_c_str(), self.here(), name, AtFlags::empty())
    }

    fn stat_path(&self, path: &[u8]) -> nix::Result<FileStat> {
        let (folder, base) = split(path);
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        fstatat(self.folder_of(folder)?, c_string(base)?.as_c_str(), flags)
    }

    fn folder_of(&self, folder: &[u8]) -> nix::Result<OwnedFd> {
        if folder.is_empty() {
            open_in(&self.root, c".", OFlag::O_PATH)
        } else {
            self.resolve(folder)
        }
    }

    fn special(&mut self, path: &[u8], name: &CStr, node: &Node, meta: &Meta) -> Result<()> {
        let (call, kind) = match node {
            Node::Symlink(_) => ("symlinkat", SFlag::S_IFLNK),
            Node::CharDevice(..) => ("mknodat", SFlag::S_IFCHR),
            Node::BlockDevice(..) => ("mknodat", SFlag::S_IFBLK),
            _ => ("mknodat", SFlag::S_IFIFO),
        };
        let make = |tree: &Tree| match node {
            Node::Symlink(target) => symlinkat(c_string(target)?.as_c_str(), tree.here(), name),
            Node::CharDevice(major, minor) | Node::BlockDevice(major, minor) => {
                mknodat(tree.here(), name, kind, mode(meta.mode), makedev(*major, *minor))
            }
            _ => mknodat(tree.here(), name, kind, mode(meta.mode), 0),
        };
        let made = match make(self) {
            Err(Errno::EEXIST) => {
                self.replace(path, name)?;
                make(self)
            }
            made => made,
        };
        match made {
            // Root in a user namespace is no more than an ordinary user here.
            Err(Errno::EPERM) if matches!(node, Node::CharDevice(..) | Node::BlockDevice(..)) => {
                self.skipped.devices.push(lossy(path));
                Ok(())
            }
            made => {
                made.map_err(|errno| at(call, path, errno))?;
                self.dress_name(name, path, meta, kind)
            }
        }
    }

    /// Takes away what has the name of a later entry: the last one wins, whatever it was.
    fn replace(&mut self, path: &[u8], name: &CStr) -> Result<()> {
        match unlinkat(self.here(), name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => {
                remove_below(self.here(), name).map_err(|errno| at("unlinkat", path, errno))?;
                let inside = |found: &[u8]| {
                    found.strip_prefix(path).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
                };
                self.folders.retain(|found, _| !inside(found));
            }
            removed => removed.map_err(|errno| at("unlinkat", path, errno))?,
        }
        Ok(())
    }

    fn stat(&self, name: &CStr) -> nix::Result<FileStat> {
        fstatat(self.here(), name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn is_folder(&self, name: &CStr) -> bool {
        self.stat(name).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
    }

    /// The order matters: a change of owner drops setuid bits and capabilities, an attribute of
    /// one's own needs write permission, and everything touches the time.
    fn dress(&mut self, file: &OwnedFd, path: &[u8], meta: &Meta) -> Result<()> {
        if self.privileged && (meta.uid, meta.gid) != self.own {
            fchown(file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
                .map_err(|errno| owner_error(path, meta, errno))?;
        }
        for (name, value) in &meta.xattrs {
            self.skipped.xattr(path, name, xattr::set(file, name, value))?;
        }
        fchmod(file, mode(meta.mode)).map_err(|errno| at("fchmod", path, errno))?;
        if let Some((accessed, modified)) = times(meta) {
            futimens(file, &accessed, &modified).map_err(|errno| at("futimens", path, errno))?;
        }
        Ok(())
    }

    /// The same for what cannot be opened. The name was made just now, and as long as the tree
    /// is built its folders are closed to everybody else, so it still is what it was.
    fn dress_name(&mut self, name: &CStr, path: &[u8], meta: &Meta, kind: SFlag) -> Result<()> {
        let folder = self.last.as_ref().map_or(&self.root, |(_, folder)| folder).as_fd();
        if self.privileged {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| owner_error(path, meta, errno))?;
        }
        for (xattr, value) in &meta.xattrs {
            self.skipped.xattr(path, xattr, xattr::set_at(folder, name, xattr, value))?;
        }
        if kind != SFlag::S_IFLNK {
            let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
            nix::sys::stat::fchmodat(folder, name, mode(meta.mode), follow)
                .map_err(|errno| at("fchmodat", path, errno))?;
        }
        if let Some((accessed, modified)) = times(meta) {
            utimensat(folder, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
                .map_err(|errno| at("utimensat", path, errno))?;
        }
        Ok(())
    }
}

impl Skipped {
    fn xattr(&mut self, path: &[u8], name: &CStr, set: nix::Result<()>) -> Result<()> {
        match set {
            // Not the user's to set, or nowhere to keep it.
            Err(Errno::EPERM | Errno::EOPNOTSUPP) => {
                self.xattrs.push(format!("{} of {}", name.to_string_lossy(), lossy(path)));
                Ok(())
            }
            set => set.map_err(|errno| at(&format!("setxattr {name:?} of"), path, errno)),
        }
    }

    fn told(self) -> Vec<String> {
        let told = |kind: &str, why: &str, names: &[String]| {
            let first = names.first()?;
            let more = match names.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            Some(format!("left out {kind}, {why}: {first}{more}"))
        };
        let devices = told("device nodes", "which only root may make", &self.devices);
        let why = "which this user may not set or this file system cannot keep";
        devices.into_iter().chain(told("extended attributes", why, &self.xattrs)).collect()
    }
}

/// The name as the tree knows it: no empty parts, no `.`, nothing that leads out.
pub(super) fn checked(path: &[u8]) -> Result<Vec<u8>> {
    let refused = |why: &str| Err(Error::new(Kind::Other, format!("its name {why}")));
    match path.first() {
        None => return refused("is empty"),
        Some(b'/') => return refused("is absolute and so points outside").map_err(|error| {
            error.hint("an archive of a root file system has relative names, as `tar -C rootfs -c .` writes them")
        }),
        Some(_) => {}
    }
    if path.contains(&0) {
        return refused("has a NUL in it");
    }
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(part, [] | [b'.']));
    let mut clean = Vec::with_capacity(path.len());
    if parts.clone().any(|part| part == b"..") {
        return refused("points outside with `..`");
    }
    if let Some(first) = parts.next() {
        clean.extend_from_slice(first);
    }
    for part in parts {
        clean.push(b'/');
        clean.extend_from_slice(part);
    }
    Ok(clean)
}

/// The folder and the last part of a checked name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn times(meta: &Meta) -> Option<(TimeSpec, TimeSpec)> {
    let modified = meta.modified?;
    Some((meta.accessed.unwrap_or(TimeSpec::UTIME_OMIT), modified))
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits)
}

fn text(name: &[u8]) -> Result<CString> {
    c_string(name).map_err(|_| Error::new(Kind::Other, "its name has a NUL in it"))
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn owner_error(path: &[u8], meta: &Meta, errno: Errno) -> Error {
    let error = at(&format!("chown to {}:{} of", meta.uid, meta.gid), path, errno);
    match errno {
        Errno::EINVAL => error.hint("this user namespace has no such id"),
        _ => error,
    }
}

fn link_error(path: &[u8], target: &[u8], errno: Errno) -> Error {
    let error = at("linkat", path, errno)
        .context(format_args!("hard link to \"{}\"", target.escape_ascii()));
    match errno {
        Errno::ENOENT => error.hint("the file that it links to is not in the tree"),
        _ => error,
    }
}

/// A failed call on a name in the tree.
pub(super) fn at(call: &str, path: &[u8], errno: Errno) -> Error {
    let shown = if path.is_empty() { "." } else { &lossy(path) };
    let error = Error::path_call(call, shown, errno);
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => error.hint("what was unpacked so far is removed again"),
        Errno::ENAMETOOLONG => error.hint("Linux takes names up to 255 and paths up to 4095 bytes"),
        _ => error,
    }
}

/// The device and inode of an open folder.
pub(super) fn identity(folder: impl AsFd) -> nix::Result<(u64, u64)> {
    fstat(folder).map(|stat| (stat.st_dev, stat.st_ino))
}
