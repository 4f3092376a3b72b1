//! The launcher: small, of one thread, and the parent of all containers' processes.
//!
//! It serves no request itself. One spare worker waits for the next request;
//! when it has one, the launcher forks the next spare. Containers are born as
//! siblings of their worker, so as the launcher's children: it reaps them and
//! hands their exit status on. Nothing here waits for a container.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::{Deserialize, Serialize};

use super::{GREETING, worker};
use crate::container;
use crate::error::{Error, Kind, Result};
use crate::interrupt::{self, never};
use crate::plan::Facts;
use crate::state::{ProcessId, Root};
use crate::sys::clone::{CloneFlags, Cloned, SingleThreaded, clone3, exit_now};
use crate::sys::{fds, pidfd, privilege, socket};

/// A container that ends with the caller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Owned {
    pub(super) root: PathBuf,
    pub(super) id: String,
    /// Tells it from a later one of that id.
    pub(super) init: ProcessId,
}

impl Owned {
    fn is_there(&self) -> bool {
        Root::new(Some(&self.root))
            .is_ok_and(|root| container::has_init(&root, &self.id, self.init))
    }

    fn delete(&self) {
        // Whatever cannot be taken away stays on record for a later delete.
        let _ = Root::new(Some(&self.root))
            .and_then(|root| container::delete(&root, &self.id, true, &mut never));
    }
}

/// What a worker says of a child that it has cloned.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claim {
    /// The container to delete if the caller ends first, where it is the container's init.
    pub(super) container: Option<Owned>,
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

impl Watched {
    fn is_attached_init(&self) -> bool {
        matches!(self, Watched::Child { claim, .. } if claim.attached && claim.container.is_some())
    }
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
    settle()?;
    let facts = Facts::probe()?;
    let mut server = Server {
        proof,
        facts,
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(broken)?,
        watched: HashMap::new(),
        next: 0,
        requests,
        ended: Vec::new(),
        ending: false,
    };
    socket::send(&server.requests, GREETING.as_bytes(), &[]).map_err(broken)?;
    server.serve(caller)
}

/// Lets go of what it was started in: no folder stays busy, no pipe stays open for it.
fn settle() -> Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| Error::io("open", "/dev/null", &error))?;
    for number in 0..=1 {
        fds::install_stdio(&null, number).map_err(|errno| Error::call("dup2", number, errno))?;
    }
    fds::close_on_exec_from(3).map_err(|errno| Error::call("close_range", "from 3", errno))?;
    nix::unistd::chdir("/").map_err(|errno| Error::path_call("chdir", "/", errno))
}

struct Server {
    proof: SingleThreaded,
    facts: Facts,
    epoll: Epoll,
    watched: HashMap<u64, Watched>,
    next: u64,
    requests: OwnedFd,
    /// Attached containers that have ended, and may be there still: the caller's end is theirs too.
    ended: Vec<Owned>,
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
        let Some(Watched::Child { process, status, claim }) = self.watched.get(&token) else {
            return Ok(());
        };
        if let Ok(Some(ended)) = pidfd::reap(process, false) {
            // Whoever wanted to know may be gone.
            let _ = nix::unistd::write(status, &ended.0.to_le_bytes());
        }
        if let (true, Some(container)) = (claim.attached, &claim.container) {
            // Most are deleted by now or soon: looked through whenever their number has doubled.
            if self.ended.len() == self.ended.capacity() {
                self.ended.retain(Owned::is_there);
                self.ended.reserve(self.ended.len().max(64));
            }
            self.ended.push(container.clone());
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

    /// Waits until the attached containers have ended, and reaps meanwhile: the init of a pid
    /// namespace does not end before all in there are reaped (pid_namespaces(7)), and what was
    /// started by exec is this process's to reap.
    fn await_inits(&mut self) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let until = Instant::now() + PATIENCE;
        for watched in self.watched.values() {
            // Both are gone and would be reported again and again.
            if let Watched::Requests { _socket: fd } | Watched::Caller { _process: fd } = watched {
                let _ = self.epoll.delete(fd.as_fd());
            }
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
    fn end(&mut self) -> Result<()> {
        self.ending = true;
        let tokens: Vec<u64> = self.watched.keys().copied().collect();
        for token in tokens {
            // A worker may be between the clone and its reply: it will find its caller gone and
            // take the container back. It is awaited, so that no claim of it is missed.
            while let Some(Watched::Worker { process, busy, .. }) = self.watched.get(&token) {
                if !busy {
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
