//! The container's tree in a mount namespace that is the host's.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::Mode;

use super::{Child, Done, Failure, propagation};
use crate::sys::mount;

impl Child<'_> {
    pub(super) fn mount_rootfs(&mut self, rootfs: &CStr, at: &CStr, propagation: u64) -> Done {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let place = open(at, flags, Mode::empty()).map_err(Failure::of("open"))?;
        // What is mounted on a shared mount is shared and appears on its peers: so first the empty
        // folder, on itself, and nothing else is seen of the container anywhere.
        let base =
            mount::clone_tree(place.as_fd(), c"", false).map_err(Failure::of("open_tree"))?;
        mount::attach(&base, &place).map_err(Failure::of("move_mount"))?;
        // That is private too; and whoever binds the host's whole tree gets no copy of this one.
        propagation::set_all(&base, libc::MS_UNBINDABLE)?;
        let tree = mount::clone_tree(AT_FDCWD, rootfs, true).map_err(Failure::of("open_tree"))?;
        // Its end must not be that of the host's mounts below the rootfs.
        propagation::set_all(&tree, propagation)?;
        mount::attach(&tree, &base).map_err(Failure::of("move_mount"))?;
        self.root = Some(tree);
        Ok(())
    }
}
