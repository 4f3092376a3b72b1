//! What mounts have to do with the host's (mount_namespaces(7)).

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::{Done, Failure, open_path};
use crate::sys::mount::{self, MountAttr};

fn set(mount: impl AsFd, propagation: u64, recursive: bool) -> nix::Result<()> {
    let attributes = MountAttr { propagation, ..MountAttr::default() };
    mount::set_attributes(mount, &attributes, recursive)
}

/// Of a tree and all mounts below its root.
pub(super) fn set_all(tree: &OwnedFd, propagation: u64) -> Done {
    set(tree, propagation, true).map_err(Failure::of("mount_setattr"))
}

/// A tree hears of its masters' mounts and tells nobody of its own.
pub(super) fn set_slave(tree: &OwnedFd) -> Done {
    set_all(tree, libc::MS_SLAVE)
}

pub(super) fn detach_all(propagation: u64) -> Done {
    set_all(&open_path(c"/")?, propagation)
}

/// The mount that has `path`, alone: pivot_root(2) refuses a root on a shared mount, and the rootfs
/// would be attached on the host too.
pub(super) fn detach_mount_of(path: &CStr) -> Done {
    let mut folder = open_path(path)?;
    loop {
        match set(&folder, libc::MS_SLAVE, false) {
            // Only a mount's own root can be told so, and it is somewhere above.
            Err(Errno::EINVAL) => {}
            done => return done.map_err(Failure::of("mount_setattr")),
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let above = openat(&folder, c"..", flags, Mode::empty()).map_err(Failure::of("openat"))?;
        let place = |folder: &OwnedFd| {
            fstat(folder).map(|stat| (stat.st_dev, stat.st_ino)).map_err(Failure::of("fstat"))
        };
        if place(&above)? == place(&folder)? {
            return Err(Failure::new("mount_setattr", Errno::EINVAL));
        }
        folder = above;
    }
}
