//! Reading and writing a cgroup's files.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::stat::Mode;

use super::group::Directory;
use crate::sys::file::read_into;

const PAGE: usize = 4096;

impl Directory {
    /// Opens the directory to find files from, or for `CLONE_INTO_CGROUP`.
    pub(super) fn open(path: &Path) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(path, flags, Mode::empty())
    }

    pub(super) fn open_file(&self, name: &str, flags: OFlag) -> nix::Result<File> {
        let flags = flags | OFlag::O_CLOEXEC;
        let fd = match &self.handle {
            Some(handle) => openat(handle.as_fd(), name, flags, Mode::empty()),
            None => openat(AT_FDCWD, &self.path.join(name), flags, Mode::empty()),
        };
        fd.map(File::from)
    }

    pub(super) fn write_file(&self, name: &str, value: &str) -> nix::Result<()> {
        write(&self.open_file(name, OFlag::O_WRONLY)?, value)
    }

    pub(super) fn read_file(&self, name: &str) -> nix::Result<String> {
        read_all(self.open_file(name, OFlag::O_RDONLY)?)
    }

    /// The same of a file that the kernel hands out in one piece, as all that are no lists: it is
    /// not asked whether there is more.
    pub(super) fn read_value(&self, name: &str) -> nix::Result<String> {
        let mut bytes = Vec::with_capacity(PAGE);
        read_into(self.open_file(name, OFlag::O_RDONLY)?, &mut bytes)?;
        Ok(text(bytes))
    }
}

/// A value has to reach the kernel in one call.
pub(super) fn write(mut file: &File, value: &str) -> nix::Result<()> {
    file.write(value.as_bytes()).map(drop).map_err(errno)
}

pub(super) fn write_to(path: &Path, value: &str) -> nix::Result<()> {
    write(&File::from(open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?), value)
}

pub(super) fn read(path: &Path) -> nix::Result<String> {
    read_all(File::from(open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?))
}

/// These files have size 0 whatever is in them, and std, which goes by the size, would make the
/// kernel render them again and again in small pieces.
fn read_all(file: File) -> nix::Result<String> {
    let mut bytes = Vec::with_capacity(PAGE);
    while read_into(&file, &mut bytes)? > 0 {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(PAGE);
        }
    }
    Ok(text(bytes))
}

/// Mounts that are none of our business may have any bytes for a name.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The names of the cgroups inside of one.
pub(super) fn children(path: &Path) -> nix::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).map_err(errno)?;
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()));
    Ok(folders.map(|entry| entry.path()).collect())
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// What the kernel answers about a cgroup that is no more.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}
