//! How a wait is given up.

use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};

/// Asked whenever a signal interrupts a wait; its error ends the wait.
///
/// Python looks at its signals there, so that Ctrl-C works at once in any
/// call. On the command line a signal that is not forwarded ends the program.
pub type Interrupt<'a> = &'a mut dyn FnMut() -> Result<()>;

/// For who has no reason to give up.
pub fn never() -> Result<()> {
    Ok(())
}

/// Waits until `fd` can be read or is closed by its other end; false when the time is over.
///
/// # Errors
/// What `interrupt` answers.
pub fn readable(fd: impl AsFd, until: Option<Instant>, interrupt: Interrupt<'_>) -> Result<bool> {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, timeout(until)) {
            Err(Errno::EINTR) => interrupt()?,
            // A longer wait than poll(2) can take goes on in the next round.
            Ok(0) if until.is_some_and(|until| Instant::now() < until) => {}
            ready => {
                let ready = ready.map_err(|errno| Error::call("poll", "on a descriptor", errno))?;
                return Ok(ready > 0);
            }
        }
    }
}

/// What is left, rounded up to poll(2)'s milliseconds, so that a wait is never cut short.
pub fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now());
    let milliseconds = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds.min(i32::MAX as u128) as i32).unwrap_or(PollTimeout::MAX)
}
