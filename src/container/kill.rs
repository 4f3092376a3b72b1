//! kill: a signal to the container's init, or to all of its processes.

use nix::errno::Errno;

use super::Held;
use crate::error::{Error, Kind, Result};
use crate::state::{Root, Status, pidfd_of};
use crate::sys::pidfd;

/// Sends a signal.
///
/// # Errors
/// The container is stopped: no process would get the signal.
pub fn kill(root: &Root, id: &str, signal: i32, all: bool) -> Result<()> {
    let held = Held::peek(root, id)?;
    if all {
        return held.state.cgroup.kill(signal);
    }
    held.expect("kill", &[Status::Running, Status::Created, Status::Paused])?;
    let sent = pidfd_of(held.state.init).and_then(|init| pidfd::send_signal(init, signal));
    match sent {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => {
            Err(Error::new(Kind::State, format!("container {id:?} has just ended")))
        }
        Err(errno) => {
            let what = format!("of signal {signal} to container {id:?}");
            Err(Error::call("pidfd_send_signal", what, errno))
        }
    }
}

/// A signal's number from its name with or without SIG, or from the number itself.
///
/// # Errors
/// There is no such signal.
pub fn signal_number(name: &str) -> Result<i32> {
    let upper = name.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(no_signal(name)) };
    }
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Real-time signals are counted from either end (signal(7)); glibc keeps 32 and 33 to itself.
    let offset =
        |prefix: &str| short.strip_prefix(prefix).map(|rest| rest.parse::<i32>().unwrap_or(0));
    match (offset("RTMIN"), offset("RTMAX")) {
        (Some(offset), _) if (0..=30).contains(&offset) => return Ok(34 + offset),
        (_, Some(offset)) if (-30..=0).contains(&offset) => return Ok(64 + offset),
        _ => {}
    }
    format!("SIG{short}")
        .parse::<nix::sys::signal::Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| no_signal(name))
}

fn no_signal(name: &str) -> Error {
    Error::new(Kind::Other, format!("there is no signal {name:?}"))
        .hint("name one such as TERM, SIGKILL, RTMIN+1 or 15")
}
