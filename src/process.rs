//! What may be done with a process by its descriptor, from any thread.
//!
//! The few calls that Python's classes make on a running process; everything
//! that clones goes through [`crate::helper`].

pub use crate::sys::fds::duplicate;
pub use crate::sys::pidfd::{WaitStatus, await_reaped, exit_info as exit_status, send_signal};
pub use crate::sys::pty::{Size, resize};
