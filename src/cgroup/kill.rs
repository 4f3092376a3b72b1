//! Signals for everything in a cgroup, however fast it forks.

use nix::errno::Errno;
use nix::unistd::Pid;

use super::group::Cgroup;
use crate::error::{Error, Result};
use crate::sys::pidfd;

/// Rounds of reading and killing, for where nothing can be frozen; more have been needed by none.
const ROUNDS: usize = 50;

impl Cgroup {
    /// Sends a signal to every process in it and in its sub-cgroups; none there is success.
    ///
    /// After `SIGKILL`, nothing in it is frozen, as version 1 lets no frozen process die.
    pub fn kill(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL { self.kill_all() } else { self.signal_all(signal) }
    }

    fn kill_all(&self) -> Result<()> {
        let killed = self.unified().map(|directory| directory.write_file("cgroup.kill", "1"));
        if killed == Some(Ok(())) && self.directories.len() == 1 {
            return Ok(());
        }
        // The kernel's own kill reaches the unified hierarchy only; version 1's may hold others.
        for _ in 0..ROUNDS {
            if self.pids()?.is_empty() {
                break;
            }
            // Frozen, no process forks between being read and being killed. If it cannot be, the
            // next round finds those that were born meanwhile.
            let frozen = self.freeze().is_ok();
            let sent = self.send(libc::SIGKILL);
            let thawed = self.thaw();
            sent?;
            if frozen {
                return thawed;
            }
        }
        // A container that was paused before its end has to wake up for it.
        match self.frozen()? {
            true => self.thaw(),
            false => Ok(()),
        }
    }

    fn signal_all(&self, signal: i32) -> Result<()> {
        let was_frozen = self.frozen()?;
        let frozen = was_frozen || self.freeze().is_ok();
        let sent = self.send(signal);
        match frozen && !was_frozen {
            true => self.thaw().and(sent),
            false => sent,
        }
    }

    fn send(&self, signal: i32) -> Result<()> {
        self.pids()?.into_iter().try_for_each(|pid| send(pid, signal))
    }
}

/// By descriptor, which takes real-time signals too.
fn send(pid: Pid, signal: i32) -> Result<()> {
    match pidfd::open(pid).and_then(|process| pidfd::send_signal(process, signal)) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::call("kill", format_args!("{pid}, {signal}"), errno)),
    }
}
