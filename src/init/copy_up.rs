//! `tmpcopyup`: a new tmpfs starts with what the rootfs has at its place.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat, mknodat};

use super::{Done, Failure};

/// Copies the tree below `source` into the empty folder `target`; nothing is followed.
pub(super) fn copy(source: &OwnedFd, target: &OwnedFd) -> Done {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut folder =
        Dir::openat(source, c".", flags, Mode::empty()).map_err(Failure::of("openat"))?;
    let entries: Vec<_> =
        folder.iter().collect::<Result<_, _>>().map_err(Failure::of("getdents"))?;
    for entry in entries {
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(source, target, name)?;
        }
    }
    Ok(())
}

fn copy_entry(source: &OwnedFd, target: &OwnedFd, name: &CStr) -> Done {
    let stat =
        fstatat(source, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(Failure::of("fstatat"))?;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    // Not every file system tells the type with the name.
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            mkdirat(target, name, mode).map_err(Failure::of("mkdirat"))?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let from = openat(source, name, flags, Mode::empty()).map_err(Failure::of("openat"))?;
            let to = openat(target, name, flags, Mode::empty()).map_err(Failure::of("openat"))?;
            copy(&from, &to)?;
        }
        libc::S_IFLNK => {
            let link = readlinkat(source, name).map_err(Failure::of("readlinkat"))?;
            nix::unistd::symlinkat(link.as_os_str(), target, name)
                .map_err(Failure::of("symlinkat"))?;
        }
        libc::S_IFREG => copy_file(source, target, name, mode)?,
        kind => {
            let kind = SFlag::from_bits_truncate(kind);
            mknodat(target, name, kind, mode, stat.st_rdev).map_err(Failure::of("mknodat"))?;
        }
    }
    give(target, name, &stat)
}

fn copy_file(source: &OwnedFd, target: &OwnedFd, name: &CStr, mode: Mode) -> Done {
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let make = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let from = openat(source, name, read, Mode::empty()).map_err(Failure::of("openat"))?;
    let to = openat(target, name, make, mode).map_err(Failure::of("openat"))?;
    std::io::copy(&mut std::fs::File::from(from), &mut std::fs::File::from(to)).map(drop).map_err(
        |error| Failure::new("write", Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
    )
}

fn give(target: &OwnedFd, name: &CStr, stat: &FileStat) -> Done {
    let (uid, gid) = (Some(stat.st_uid.into()), Some(stat.st_gid.into()));
    nix::unistd::fchownat(target, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(Failure::of("fchownat"))?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Ok(());
    }
    // chown(2) clears the set-user-ID bits, so the mode comes last.
    let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
    nix::sys::stat::fchmodat(target, name, Mode::from_bits_truncate(stat.st_mode), follow)
        .map_err(Failure::of("fchmodat"))
}
