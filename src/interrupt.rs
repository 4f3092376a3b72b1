//! How a wait is given up.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

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
        match poll(&mut fds, attentive(until)) {
            Err(Errno::EINTR) => interrupt()?,
            Ok(0) if until.is_none_or(|until| Instant::now() < until) => interrupt()?,
            ready => {
                let ready = ready.map_err(|errno| Error::call("poll", "on a descriptor", errno))?;
                return Ok(ready > 0);
            }
        }
    }
}

/// How long a wait goes on without a look at the signals.
const ATTENTION: Duration = Duration::from_millis(100);

/// The timeout of one round of a wait that signals may end.
///
/// A signal that comes just before poll(2), or to another thread, does not interrupt it. So the
/// thread on which Python handles signals, the first, looks up now and then.
pub fn attentive(until: Option<Instant>) -> PollTimeout {
    if nix::unistd::gettid() != nix::unistd::getpid() {
        return timeout(until);
    }
    let look_up = Instant::now() + ATTENTION;
    timeout(Some(until.map_or(look_up, |until| until.min(look_up))))
}

/// What is left, rounded up to poll(2)'s milliseconds, so that a wait is never cut short.
pub fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now());
    let milliseconds = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds.min(i32::MAX as u128) as i32).unwrap_or(PollTimeout::MAX)
}
