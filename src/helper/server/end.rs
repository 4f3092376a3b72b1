//! What happens when the caller has ended.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::EpollEvent;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Claim, Owned, Server, Watched};
use crate::error::{Error, Result};
use crate::interrupt::{self, never};
use crate::sys::clone::exit_now;
use crate::sys::pidfd;

impl Server {
    /// Waits until the attached containers have ended, and reaps meanwhile: the init of a pid
    /// namespace does not end before all in there are reaped (pid_namespaces(7)), and what was
    /// started by exec is this process's to reap.
    fn await_inits(&mut self) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let until = Instant::now() + PATIENCE;
        for fd in [&self.requests, &self.caller] {
            // Both are gone and would be reported again and again.
            let _ = self.epoll.delete(fd);
        }
        let mut events = [EpollEvent::empty(); 32];
        while Instant::now() < until && self.watched.values().any(Watched::is_attached_init) {
            let ready = match self.epoll.wait(&mut events, interrupt::timeout(Some(until))) {
                Err(Errno::EINTR) => continue,
                ready => {
                    ready.map_err(|errno| Error::call("epoll_wait", "in the launcher", errno))?
                }
            };
            for event in &events[..ready] {
                self.child_ended(event.data())?;
            }
        }
        Ok(())
    }

    /// The caller has ended: what was attached to it ends too, what was detached lives on.
    pub(super) fn end(&mut self) -> Result<()> {
        /// For what a request is at; a hook may take longer, and is not waited for.
        const PATIENCE: Duration = Duration::from_secs(5);
        self.ending = true;
        let until = Instant::now() + PATIENCE;
        let tokens: Vec<u64> = self.watched.keys().copied().collect();
        for token in tokens {
            // A worker may be between the clone and its reply: it will find its caller gone and
            // take the container back. It is awaited, so that no claim of it is missed.
            while let Some(Watched::Worker { pid, process, channel, busy }) =
                self.watched.get(&token)
            {
                // An idle one ends by that. It is not killed at once, for it may have begun to serve
                // and not be heard of yet.
                if !busy {
                    let both = nix::sys::socket::Shutdown::Both;
                    let _ = nix::sys::socket::shutdown(channel.as_raw_fd(), both);
                }
                let next = if *busy { channel } else { process };
                if !interrupt::readable(next, Some(until), &mut never)? {
                    // What it was making is claimed.
                    let _ = pidfd::send_signal(process, libc::SIGSTOP);
                    kill_children(*pid);
                    let _ = pidfd::send_signal(process, libc::SIGKILL);
                }
                self.worker_spoke(token)?;
            }
        }
        for watched in self.watched.values() {
            if let Watched::Child { process, claim: Claim { attached: true, .. }, .. } = watched {
                let _ = pidfd::send_signal(process, libc::SIGKILL);
            }
        }
        self.await_inits()?;
        self.ended.iter().filter(|container| container.is_there()).for_each(Owned::delete);
        exit_now(0)
    }
}

/// Of a worker, which waits for them and is stopped: the hooks that it runs. Its containers are not
/// its children.
fn kill_children(worker: Pid) {
    let path = format!("/proc/{worker}/task/{worker}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
    }
}
