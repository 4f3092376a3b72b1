//! The launcher: small, of one thread, and the parent of all containers' processes.
//!
//! It serves no request itself. One spare worker waits for the next request;
//! when it has one, the launcher forks the next spare. Containers are born as
//! siblings of their worker, so as the launcher's children: it reaps them and
//! hands their exit status on. Nothing here waits for a container.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::{Deserialize, Serialize};

use super::{GREETING, worker};
use crate::container;
use crate::error::{Error, Kind, Result};
use crate::interrupt::never;
use crate::plan::Facts;
use crate::state::Root;
use crate::sys::clone::{CloneFlags, Cloned, SingleThreaded, clone3, exit_now};
use crate::sys::{fds, pidfd, privilege, socket};

/// What a worker says of a child that it has cloned.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claim {
    /// The container to delete if the caller ends first, where it is the container's init.
    pub(super) container: Option<(PathBuf, String)>,
    /// End it when the caller ends.
    pub(super) attached: bool,
}

/// What the launcher listens to.
enum Watched {
    /// Requests: only its end is of interest here, the spare worker takes what comes.
    Requests {
        _socket: OwnedFd,
    },
    /// The process that started the launcher.
    Caller {
        _process: OwnedFd,
    },
    Worker {
        process: OwnedFd,
        channel: OwnedFd,
        busy: bool,
    },
    Child {
        process: OwnedFd,
        status: OwnedFd,
        claim: Claim,
    },
}

/// Runs the launcher on descriptors 0 (requests) and 1 (the caller's pidfd). Never returns.
///
/// # Errors
/// Only before it has begun.
pub fn run() -> Result<std::convert::Infallible> {
    let broken = |errno| Error::call("dup", "of the launcher's descriptors", errno);
    let requests = fds::duplicate(0).map_err(broken)?;
    let caller = fds::duplicate(1).map_err(broken)?;
    let Some(proof) = SingleThreaded::prove() else {
        return Err(Error::new(Kind::Other, "the launcher has more than one thread"));
    };
    if let Cloned::Parent(..) = clone3(proof, &CloneFlags::default()).map_err(broken)? {
        exit_now(0);
    }
    // Containers that it launches may look at it: they must not read its memory.
    privilege::set_dumpable(false).map_err(broken)?;
    let _ = privilege::set_name(c"rsc:[launcher]");
    settle(&requests, &caller)?;
    let facts = Facts::probe()?;
    let mut server = Server {
        proof,
        facts,
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(broken)?,
        watched: HashMap::new(),
        next: 0,
        requests,
        ending: false,
    };
    socket::send(&server.requests, GREETING.as_bytes(), &[]).map_err(broken)?;
    server.serve(caller)
}

/// Lets go of what it was started in: no folder stays busy, no pipe stays open for it.
fn settle(requests: &OwnedFd, caller: &OwnedFd) -> Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| Error::io("open", "/dev/null", &error))?;
    for number in 0..=1 {
        fds::install_stdio(&null, number).map_err(|errno| Error::call("dup2", number, errno))?;
    }
    drop(null);
    fds::close_all_but(3, &[requests.as_fd(), caller.as_fd()])
        .map_err(|errno| Error::call("close_range", "from 3", errno))?;
    nix::unistd::chdir("/").map_err(|errno| Error::path_call("chdir", "/", errno))
}

struct Server {
    proof: SingleThreaded,
    facts: Facts,
    epoll: Epoll,
    watched: HashMap<u64, Watched>,
    next: u64,
    requests: OwnedFd,
    /// The caller is gone: no spare worker is needed any more.
    ending: bool,
}

impl Server {
    fn serve(&mut self, caller: OwnedFd) -> Result<std::convert::Infallible> {
        let requests = self.requests.try_clone().map_err(|e| Error::io("dup", "requests", &e))?;
        // Level-triggered POLLIN on the requests would wake the launcher for each of them.
        self.watch(requests, EpollFlags::empty(), |socket| Watched::Requests { _socket: socket })?;
        self.watch(caller, EpollFlags::EPOLLIN, |process| Watched::Caller { _process: process })?;
        self.spare()?;
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                ready => {
                    ready.map_err(|errno| Error::call("epoll_wait", "in the launcher", errno))?
                }
            };
            for event in &events[..ready] {
                self.happened(event.data())?;
            }
        }
    }

    fn watch(
        &mut self,
        fd: OwnedFd,
        events: EpollFlags,
        watched: impl FnOnce(OwnedFd) -> Watched,
    ) -> Result<()> {
        let token = self.next;
        self.next += 1;
        self.epoll
            .add(&fd, EpollEvent::new(events, token))
            .map_err(|errno| Error::call("epoll_ctl", "in the launcher", errno))?;
        self.watched.insert(token, watched(fd));
        Ok(())
    }

    fn happened(&mut self, token: u64) -> Result<()> {
        match self.watched.get(&token) {
            Some(Watched::Requests { .. } | Watched::Caller { .. }) => self.end(),
            Some(Watched::Worker { .. }) => self.worker_spoke(token),
            Some(Watched::Child { .. }) => self.child_ended(token),
            None => Ok(()),
        }
    }

    /// Forks the worker that takes the next request.
    fn spare(&mut self) -> Result<()> {
        let failed = |errno| Error::call("clone3", "for a worker", errno);
        let (ours, theirs) = socket::pair().map_err(failed)?;
        match clone3(self.proof, &CloneFlags::default()).map_err(failed)? {
            Cloned::Child => {
                drop(ours);
                // The copies of other requests' sockets would keep their callers waiting.
                self.watched.clear();
                worker::run(&self.requests, &theirs, &self.facts, self.proof)
            }
            Cloned::Parent(_, process) => {
                drop(theirs);
                let watched = |channel| Watched::Worker { process, channel, busy: false };
                self.watch(ours, EpollFlags::EPOLLIN, watched)
            }
        }
    }

    fn worker_spoke(&mut self, token: u64) -> Result<()> {
        let Some(Watched::Worker { process, channel, busy }) = self.watched.get_mut(&token) else {
            return Ok(());
        };
        let mut message = [0; 8192];
        match socket::receive(&*channel, &mut message) {
            Ok(Some((_, fds))) if fds.is_empty() => {
                *busy = true;
                if self.ending { Ok(()) } else { self.spare() }
            }
            Ok(Some((read, fds))) => self.claimed(&message[..read], fds),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Ok(None) | Err(_) => {
                // It has closed its end, so it is ending.
                let _ = pidfd::reap(&*process, true);
                let died_idle = !*busy;
                self.forget(token);
                if died_idle && !self.ending { self.spare() } else { Ok(()) }
            }
        }
    }

    fn claimed(&mut self, claim: &[u8], fds: Vec<OwnedFd>) -> Result<()> {
        let mut fds = fds.into_iter();
        if let (Ok(claim), Some(process), Some(status)) =
            (serde_json::from_slice(claim), fds.next(), fds.next())
        {
            let watched = |process| Watched::Child { process, status, claim };
            self.watch(process, EpollFlags::EPOLLIN, watched)?;
        }
        Ok(())
    }

    fn child_ended(&mut self, token: u64) -> Result<()> {
        let Some(Watched::Child { process, status, .. }) = self.watched.get(&token) else {
            return Ok(());
        };
        if let Ok(Some(ended)) = pidfd::reap(process, false) {
            // Whoever wanted to know may be gone.
            let _ = nix::unistd::write(status, &ended.0.to_le_bytes());
        }
        self.forget(token);
        Ok(())
    }

    fn forget(&mut self, token: u64) {
        if let Some(Watched::Worker { channel: fd, .. } | Watched::Child { process: fd, .. }) =
            self.watched.remove(&token)
        {
            let _ = self.epoll.delete(fd.as_fd());
        }
    }

    /// The caller has ended: what was attached to it ends too, what was detached lives on.
    fn end(&mut self) -> Result<()> {
        self.ending = true;
        let tokens: Vec<u64> = self.watched.keys().copied().collect();
        for token in tokens {
            // A worker may be between the clone and its reply: it will find its caller gone and
            // take the container back. It is awaited, so that no claim of it is missed.
            while let Some(Watched::Worker { channel, busy, .. }) = self.watched.get(&token) {
                // An idle one ends by that. It is not killed, for it may have begun to serve and
                // not be heard of yet.
                if !busy {
                    let both = nix::sys::socket::Shutdown::Both;
                    let _ = nix::sys::socket::shutdown(channel.as_raw_fd(), both);
                }
                self.worker_spoke(token)?;
            }
        }
        for watched in self.watched.values() {
            let Watched::Child { process, claim, .. } = watched else { continue };
            if !claim.attached {
                continue;
            }
            let _ = pidfd::send_signal(process, libc::SIGKILL);
            if let Some((root, id)) = &claim.container {
                // Whatever cannot be taken away stays on record for a later delete.
                let _ = Root::new(Some(root))
                    .and_then(|root| container::delete(&root, id, true, &mut never));
            }
        }
        exit_now(0)
    }
}
