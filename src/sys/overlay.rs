//! A program's file, seen through an overlay that nobody can write to.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlink};
use nix::sys::stat::{FileStat, Mode, fstat, stat};

use super::{mount, path};

/// The file of this program, to be executed, and its mount, which is nowhere attached and ends with
/// its last user.
#[derive(Debug)]
pub struct SealedView {
    /// To be executed by its descriptor.
    pub file: OwnedFd,
    /// Of no use any more. Its drop waits for a grace period, and so does that of the last user of the
    /// file, for the layers.
    pub mount: OwnedFd,
}

/// This program's file on a read-only mount of its own.
///
/// An overlay without an upper layer is read-only as a file system, whoever asks for what: neither
/// the mount's attributes nor remounting can change that, so that a container which gets hold of
/// the file cannot write to the host's (CVE-2019-5736). Its pages are those of the host's page
/// cache: nothing is copied. So who overwrites the program on the host, and does not put another in
/// its place as install(1) does, changes what waits in containers that are created and not started.
///
/// # Errors
/// `EPERM` for an ordinary user, `ENODEV` without the file system; `ESTALE` if another file has
/// taken this program's place, `EXDEV` if its file is mounted there; others where the program is on
/// a file system that cannot be a layer.
pub fn sealed_view() -> nix::Result<SealedView> {
    let context = mount::fsopen(c"overlay")?;
    let own = path::c_string(readlink(c"/proc/self/exe")?.as_bytes())?;
    let (folder, name) = path::split(&own)?;
    let path_only = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let folder = open(folder.as_c_str(), path_only | OFlag::O_DIRECTORY, Mode::empty())?;
    // A layer is without what is mounted in it, such as the program of a container's image.
    let there = path::open_in_same_mount(&folder, &name, OFlag::O_PATH)?;
    if identity(&fstat(&there)?) != identity(&stat(c"/proc/self/exe")?) {
        return Err(Errno::ESTALE);
    }
    // By its descriptor's link, for a path would have to be escaped. An overlay without an upper
    // layer has two lower ones at least; /sys is everywhere, and the program's folder not in it.
    let layers = path::c_string(format!("/proc/self/fd/{}:/sys", folder.as_raw_fd()).as_bytes())?;
    mount::fsconfig(&context, c"lowerdir", Some(&layers))?;
    // Of layers on two file systems the kernel's log would say how it makes inode numbers for both.
    mount::fsconfig(&context, c"xino", Some(c"off"))?;
    let mount = mount::fsmount(&context, mount::attr::RDONLY)?;
    let file = openat(&mount, name.as_c_str(), path_only | OFlag::O_NOFOLLOW, Mode::empty())?;
    Ok(SealedView { file, mount })
}

fn identity(stat: &FileStat) -> (libc::dev_t, libc::ino_t) {
    (stat.st_dev, stat.st_ino)
}
