//! What may be done with a process by its descriptor, from any thread.
//!
//! The few calls that Python's classes make on a running process; everything
//! that clones goes through [`crate::helper`].

use std::os::fd::AsFd;

use crate::state::status_of_zombie;
use crate::sys::pidfd;

pub use crate::sys::fds::duplicate;
pub use crate::sys::pidfd::{WaitStatus, send_signal};
pub use crate::sys::pty::{Size, resize};

/// How a process ended that is not our child, where the kernel tells.
///
/// After it was reaped, its pidfd does (Linux ≥ 6.15); before, /proc does. Asked in this order and
/// once more, for it may be reaped in between.
pub fn exit_status(pid: i32, process: impl AsFd) -> Option<WaitStatus> {
    pidfd::exit_info(&process)
        .or_else(|| status_of_zombie(pid))
        .or_else(|| pidfd::exit_info(&process))
}
