//! Signals for everything in a cgroup, however fast it forks.

use std::collections::HashSet;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::group::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::sys::pidfd;

/// Rounds of reading and killing, after which a fork bomb that cannot be frozen has won.
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
        // Frozen, no process forks between being read and being killed.
        let mut frozen = !self.pids()?.is_empty() && self.freeze().is_ok();
        let sent = self.kill_until_none_is_new();
        // One that was paused before its end has to wake up for it.
        frozen = frozen || self.frozen()?;
        if frozen { self.thaw().and(sent) } else { sent }
    }

    /// A process that was sent `SIGKILL` forks no more, though it may take its time to die.
    fn kill_until_none_is_new(&self) -> Result<()> {
        let mut killed = HashSet::new();
        for _ in 0..ROUNDS {
            let new: Vec<Pid> =
                self.pids()?.into_iter().filter(|pid| killed.insert(*pid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            new.into_iter().try_for_each(|pid| send(pid, libc::SIGKILL))?;
        }
        Err(Error::new(Kind::Other, "the container forks faster than it can be killed")
            .hint("set $.linux.resources.pids.limit, or mount the freezer controller"))
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
