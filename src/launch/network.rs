//! A network namespace made before anybody asks for it.
//!
//! It is the dearest namespace, most of a millisecond. A worker that waits for a
//! request has the time, and the command line's stage, while the plan is made:
//! it enters a new one, and a container that is to have its own is simply born
//! there. Either serves one request, so nobody else ever sees it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};
use crate::sys::{net, pidfd};

/// This process is in a new network namespace, and may know the way back.
#[derive(Debug)]
pub struct SpareNetwork {
    home: Option<OwnedFd>,
}

impl SpareNetwork {
    /// Enters a new namespace; none where that cannot be had, and then nothing has changed.
    pub fn make() -> Option<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let home = open("/proc/self/ns/net", flags, Mode::empty()).ok()?;
        // Root of a user namespace may leave a network that belongs to the one above, and not come
        // back: entering the one that it is in takes the same right.
        pidfd::setns(&home, libc::CLONE_NEWNET).ok()?;
        Self::enter(Some(home))
    }

    /// The same without a way back, for a process that does nothing in the host's name after it.
    pub fn make_for_good() -> Option<Self> {
        Self::enter(None)
    }

    fn enter(home: Option<OwnedFd>) -> Option<Self> {
        unshare(CloneFlags::CLONE_NEWNET).ok()?;
        // If it cannot be set up here, the container's own step says why.
        let _ = net::loopback_up();
        Some(SpareNetwork { home })
    }

    /// Goes back, where this process knows the way.
    ///
    /// # Errors
    /// As [`leave`](Self::leave)'s.
    pub fn leave_if_known(self) -> Result<()> {
        if self.home.is_some() { self.leave() } else { Ok(()) }
    }

    /// Goes back to where this process came from.
    ///
    /// # Errors
    /// setns(2)'s, or there is no way back: then this process must not act in the host's name.
    pub fn leave(self) -> Result<()> {
        self.home
            .ok_or(Errno::EBADF)
            .and_then(|home| pidfd::setns(home, libc::CLONE_NEWNET))
            .map_err(|errno| Error::call("setns", "back to the host's network", errno))
    }

    /// The way back.
    pub fn home(&self) -> Option<BorrowedFd<'_>> {
        self.home.as_ref().map(AsFd::as_fd)
    }
}
