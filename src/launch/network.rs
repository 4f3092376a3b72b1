//! A network namespace made before anybody asks for it.
//!
//! It is the dearest namespace, half a millisecond. A worker that waits for a
//! request has the time: it enters a new one, and a container that is to have
//! its own is simply born there. The worker serves one request, so nobody
//! else ever sees it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};
use crate::sys::{net, pidfd};

/// This process is in a new network namespace, and knows the way back.
#[derive(Debug)]
pub struct SpareNetwork {
    home: OwnedFd,
}

impl SpareNetwork {
    /// Enters a new namespace; none where that cannot be had, and then nothing has changed.
    pub fn make() -> Option<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let home = open("/proc/self/ns/net", flags, Mode::empty()).ok()?;
        // Root of a user namespace may leave a network that belongs to the one above, and not come
        // back: entering the one that it is in takes the same right.
        pidfd::setns(&home, libc::CLONE_NEWNET).ok()?;
        unshare(CloneFlags::CLONE_NEWNET).ok()?;
        // If it cannot be set up here, the container's own step says why.
        let _ = net::loopback_up();
        Some(SpareNetwork { home })
    }

    /// Goes back to where this process came from.
    ///
    /// # Errors
    /// setns(2)'s: then this process must not act in the host's name.
    pub fn leave(self) -> Result<()> {
        pidfd::setns(&self.home, libc::CLONE_NEWNET)
            .map_err(|errno| Error::call("setns", "back to the host's network", errno))
    }
}

impl AsFd for SpareNetwork {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.home.as_fd()
    }
}
