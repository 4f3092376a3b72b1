//! Paths inside a tree that its owner may change under our hands.
//!
//! Everything goes through openat2(2) with `RESOLVE_IN_ROOT`: `..` and
//! symbolic links, absolute ones too, stay below the root's descriptor, and a
//! link cannot be swapped in between a check and its use, for the answer is a
//! descriptor. Magic links (`/proc/*/fd`, `/proc/*/root`) lead out of any
//! tree and are refused (CVE-2019-16884, CVE-2021-30465).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, mkdirat};

use super::check;

const RESOLVE_NO_XDEV: u64 = 0x01;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// As many as the kernel follows in one path.
const MOST_LINKS: usize = 40;

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn openat2(
    root: impl AsFd,
    path: &CStr,
    flags: OFlag,
    mode: Mode,
    resolve: u64,
) -> nix::Result<OwnedFd> {
    let how = OpenHow {
        flags: (flags | OFlag::O_CLOEXEC).bits() as u64,
        mode: u64::from(mode.bits()),
        resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve,
    };
    loop {
        // SAFETY: root is open, path NUL-terminated, how valid for the size that is passed.
        let fd = check(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_fd().as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                std::mem::size_of::<OpenHow>(),
            )
        });
        match fd {
            // A rename or mount somewhere raced with a `..` of ours; the kernel asks to try again.
            Err(Errno::EAGAIN) => {}
            // SAFETY: the call succeeded and returned a new descriptor, which nobody else owns.
            fd => return fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        }
    }
}

/// Opens `path` below `root`, following links inside it.
pub fn open_in(root: impl AsFd, path: &CStr, flags: OFlag) -> nix::Result<OwnedFd> {
    openat2(root, path, flags, Mode::empty(), 0)
}

/// Opens `path` below `root`; any symbolic link on the way is `ELOOP`.
pub fn open_in_nofollow(root: impl AsFd, path: &CStr, flags: OFlag) -> nix::Result<OwnedFd> {
    openat2(root, path, flags, Mode::empty(), RESOLVE_NO_SYMLINKS)
}

/// Like [`open_in_nofollow`]; a mount on the way or at the end, a bind mount too, is `EXDEV`.
pub fn open_in_same_mount(root: impl AsFd, path: &CStr, flags: OFlag) -> nix::Result<OwnedFd> {
    openat2(root, path, flags, Mode::empty(), RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)
}

/// Opens the folder at `path` below `root` (`O_PATH`), making what is missing of it.
///
/// From the far end: mostly the folder is there, or its parent is. Each prefix is resolved from the
/// root anew, so that a link on the way keeps its meaning; one that leads to nothing yet is
/// followed, and what it leads to is made.
pub fn make_dir_in(root: impl AsFd, path: &CStr, mode: Mode) -> nix::Result<OwnedFd> {
    make_dir_following(root.as_fd(), path, mode, MOST_LINKS)
}

fn make_dir_following(
    root: BorrowedFd<'_>,
    path: &CStr,
    mode: Mode,
    links: usize,
) -> nix::Result<OwnedFd> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match open_in(root, path, directory) {
        Err(Errno::ENOENT) => {}
        opened => return opened,
    }
    let (above, name) = split(path)?;
    let parent = make_dir_following(root, &above, mode, links)?;
    match mkdirat(&parent, name.as_c_str(), mode) {
        Ok(()) => return open_in(root, path, directory),
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    match open_in(root, path, directory) {
        Err(Errno::ENOENT) => {
            let links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
            let target = c_string(&led_to(&parent, above.to_bytes(), &name)?)?;
            make_dir_following(root, &target, mode, links)
        }
        opened => opened,
    }
}

/// The path, from the root, that the link `name` in the folder at `above` leads to.
fn led_to(folder: &OwnedFd, above: &[u8], name: &CStr) -> nix::Result<Vec<u8>> {
    let target = readlinkat(folder, name)?;
    let target = std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str());
    Ok(if target.starts_with(b"/") { target.to_owned() } else { [above, b"/", target].concat() })
}

/// Opens the file at `path` below `root` (`O_PATH`), making it and its folders where missing.
///
/// A link that leads to nothing yet is followed as by [`make_dir_in`]: images come with an
/// /etc/resolv.conf that points into an empty /run.
pub fn make_file_in(root: impl AsFd, path: &CStr, mode: Mode) -> nix::Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match open_in(&root, &path, OFlag::O_PATH) {
            Err(Errno::ENOENT) => {}
            opened => return opened,
        }
        let (above, name) = split(&path)?;
        let folder = make_dir_in(&root, &above, Mode::from_bits_truncate(0o755))?;
        // O_EXCL does not follow a link, and does not wait for the writer of a FIFO.
        match openat2(&folder, &name, OFlag::O_CREAT | OFlag::O_EXCL, mode, 0) {
            Ok(_) => return open_in(&folder, &name, OFlag::O_PATH | OFlag::O_NOFOLLOW),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        match led_to(&folder, above.to_bytes(), &name) {
            Ok(target) => path = c_string(&target)?,
            // No link: somebody has made it in the meantime.
            Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::ELOOP)
}

/// Opens the place at `path` below `root` for a mount of `like`, made where missing: a folder is
/// mounted on a folder, anything else on a file. An error names the call.
pub fn make_like_in(
    root: impl AsFd,
    like: impl AsFd,
    path: &CStr,
    mode: Mode,
) -> Result<OwnedFd, (&'static str, Errno)> {
    let stat = nix::sys::stat::fstat(like).map_err(|errno| ("fstat", errno))?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        make_dir_in(root, path, mode).map_err(|errno| ("mkdirat", errno))
    } else {
        make_file_in(root, path, mode).map_err(|errno| ("openat2", errno))
    }
}

/// The folder and the last name of a path; the name is never `..`.
pub fn split(path: &CStr) -> nix::Result<(std::ffi::CString, std::ffi::CString)> {
    let bytes = path.to_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = (&bytes[..start], &bytes[start..end]);
    if name.is_empty() || name == b".." || name == b"." {
        return Err(Errno::EINVAL);
    }
    Ok((c_string(if folder.is_empty() { b"/" } else { folder })?, c_string(name)?))
}

/// A NUL inside a name cannot reach the kernel.
pub fn c_string(bytes: &[u8]) -> nix::Result<std::ffi::CString> {
    std::ffi::CString::new(bytes).map_err(|_| Errno::EINVAL)
}
