//! Removes a tree, however deep and closed it is.
//!
//! A hostile archive can build, through links, a tree deeper than a path can be long and than
//! a process has descriptors. So the walk holds one folder at a time, goes down by name and up
//! by `..`, and unlinks on its way.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Error, Result};
use crate::sys::path::split;

const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes what is at a path, if anything is there.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let failed = |errno| Error::path_call("remove", path, errno);
    let whole =
        crate::sys::path::c_string(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
            .map_err(failed)?;
    let (folder, name) = split(&whole).map_err(failed)?;
    let folder = if path.is_absolute() || path.components().count() > 1 {
        folder
    } else {
        CString::from(c".")
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match nix::fcntl::open(folder.as_c_str(), flags, Mode::empty())
        .and_then(|parent| remove_below(&parent, &name))
    {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed.map_err(failed),
    }
}

/// Removes the name in a folder and everything in it.
pub(super) fn remove_below(parent: &OwnedFd, name: &CStr) -> nix::Result<()> {
    if unlinked(parent, name)? {
        return Ok(());
    }
    let mut here = enter(parent, name)?;
    let mut names: Vec<CString> = vec![name.to_owned()];
    while let Some(inside) = names.last() {
        match first_full_folder(&here)? {
            Some(name) => {
                here = enter(&here, &name)?;
                names.push(name);
            }
            None => {
                here = openat(&here, c"..", FOLDER, Mode::empty())?;
                match unlinkat(&here, inside.as_c_str(), UnlinkatFlags::RemoveDir) {
                    // A listing may pass over a name while others are unlinked beside it.
                    Err(Errno::ENOTEMPTY) => here = enter(&here, inside)?,
                    removed => {
                        removed?;
                        names.pop();
                    }
                }
            }
        }
    }
    Ok(())
}

/// Unlinks everything up to a folder that is not empty, and names that.
fn first_full_folder(folder: &OwnedFd) -> nix::Result<Option<CString>> {
    let mut listing = Dir::from_fd(openat(folder, c".", FOLDER, Mode::empty())?)?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." && !unlinked(folder, name)? {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// False for a folder with something in it.
fn unlinked(folder: impl AsFd, name: &CStr) -> nix::Result<bool> {
    match unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => {}
        removed => return removed.map(|()| true),
    }
    match unlinkat(&folder, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Opens a folder so that what is in it can be removed, which its mode may not allow its owner.
fn enter(parent: &OwnedFd, name: &CStr) -> nix::Result<OwnedFd> {
    let all = Mode::S_IRWXU;
    let folder = match openat(parent, name, FOLDER, Mode::empty()) {
        Err(Errno::EACCES) => {
            fchmodat(parent, name, all, FchmodatFlags::FollowSymlink)?;
            openat(parent, name, FOLDER, Mode::empty())?
        }
        opened => opened?,
    };
    if !nix::unistd::geteuid().is_root() {
        fchmod(&folder, all)?;
    }
    Ok(folder)
}
