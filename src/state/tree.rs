//! The container's tree, where it is mounted in the host's mount namespace.
//!
//! It is mounted on one folder, which says by being there that there may be
//! something to take down: no list of mounts has to be kept, and none can be
//! wrong.

use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Folder, Root};
use crate::error::{Error, Result};

const TREE: &str = "rootfs";

impl Root {
    /// Where the tree of the container with this id is mounted, if that is on the host.
    pub fn tree(&self, id: &str) -> PathBuf {
        self.path().join(id).join(TREE)
    }
}

impl Folder {
    /// Makes the folder that the tree is mounted on.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_tree(&self) -> Result<()> {
        mkdirat(self, TREE, Mode::S_IRWXU)
            .map_err(|errno| Error::path_call("mkdir", self.path().join(TREE), errno))
    }

    /// Takes down what is mounted on the folder, with all that is mounted in there, and the folder;
    /// none is as good.
    ///
    /// Namespaces made meanwhile have copies of those mounts. They go with the folder: the kernel
    /// detaches what others have mounted on one that is removed (rmdir(2)).
    ///
    /// # Errors
    /// Something cannot be unmounted or removed.
    pub fn remove_tree(&self) -> Result<()> {
        let failed = |call, errno| Error::path_call(call, self.path().join(TREE), errno);
        // Not by the path: what is at the end of that may be another container's by now.
        let mounted = format!("/proc/self/fd/{}/{TREE}", self.as_fd().as_raw_fd());
        loop {
            match unlinkat(self, TREE, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                // One mount goes in each turn. An init whose runtime was killed may add some, until
                // there is no folder.
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(failed("rmdir", errno)),
            }
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            umount2(mounted.as_str(), flags).map_err(|errno| failed("umount2", errno))?;
        }
    }
}
