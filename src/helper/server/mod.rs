//! The launcher: small, of one thread, and the parent of all containers' processes.
//!
//! It serves no request itself. One spare worker waits for the next request.
//! When it has one, the launcher forks the next spare: at once if a further
//! request is waiting, else when it is out of the first one's way. Containers
//! are born as siblings of their worker, so as the launcher's children: it
//! reaps them and hands their exit status on. Nothing here waits for a
//! container.

mod end;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{GREETING, worker};
use crate::container;
use crate::error::{Error, Kind, Result};
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
            .is_ok_and(|root| container::has_remains(&root, &self.id, self.init))
    }

    fn delete(&self) {
        // Whatever cannot be taken away stays on record for a later delete.
        let _ = Root::new(Some(&self.root))
            .and_then(|root| container::delete_remains(&root, &self.id, self.init));
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
    Worker {
        pid: Pid,
        process: OwnedFd,
        channel: OwnedFd,
        busy: bool,
    },
    Child {
        process: OwnedFd,
        status: OwnedFd,
        claim: Claim,
        /// Its mount namespace: held until its end is told, so that nobody waits for the kernel to
        /// take down the tree.
        _tree: Option<OwnedFd>,
    },
}

/// The token of the requests' socket.
const REQUESTS: u64 = 0;
/// The token of the process that started the launcher.
const CALLER: u64 = 1;

/// A request that came alone is served by two processors, the worker's and the container's; the
/// next spare is forked when most are through; in milliseconds.
const OUT_OF_THE_WAY: u8 = 5;

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
    settle(&requests, &caller)?;
    let facts = Facts::probe()?;
    let mut server = Server {
        proof,
        facts,
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(broken)?,
        watched: HashMap::new(),
        next: CALLER + 1,
        requests,
        caller,
        has_spare: false,
        expects_container: true,
        ended: Vec::new(),
        ending: false,
    };
    socket::send(&server.requests, GREETING.as_bytes(), &[]).map_err(broken)?;
    server.serve()
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
    caller: OwnedFd,
    /// A worker waits for the next request.
    has_spare: bool,
    /// The last request was for a container, so the next may well be.
    expects_container: bool,
    /// Attached containers that have ended, and may be there still: the caller's end is theirs too.
    ended: Vec<Owned>,
    /// The caller is gone: no spare worker is needed any more.
    ending: bool,
}

impl Server {
    fn serve(&mut self) -> Result<std::convert::Infallible> {
        self.listen(&self.requests, EpollFlags::empty(), REQUESTS)?;
        self.listen(&self.caller, EpollFlags::EPOLLIN, CALLER)?;
        self.fork_spare()?;
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let timeout = if self.has_spare { EpollTimeout::NONE } else { OUT_OF_THE_WAY.into() };
            let ready = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => continue,
                ready => {
                    ready.map_err(|errno| Error::call("epoll_wait", "in the launcher", errno))?
                }
            };
            if ready == 0 {
                self.fork_spare()?;
            }
            for event in &events[..ready] {
                self.happened(event.data(), event.events())?;
            }
        }
    }

    fn listen(&self, fd: &OwnedFd, events: EpollFlags, token: u64) -> Result<()> {
        self.epoll
            .add(fd, EpollEvent::new(events, token))
            .map_err(|errno| Error::call("epoll_ctl", "in the launcher", errno))
    }

    /// While a worker waits for requests the launcher must not be woken by each of them; their end
    /// is always reported.
    fn set_spare(&mut self, has_spare: bool) -> Result<()> {
        self.has_spare = has_spare;
        let events = if has_spare { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        self.epoll
            .modify(&self.requests, &mut EpollEvent::new(events, REQUESTS))
            .map_err(|errno| Error::call("epoll_ctl", "in the launcher", errno))
    }

    fn watch(
        &mut self,
        fd: OwnedFd,
        events: EpollFlags,
        watched: impl FnOnce(OwnedFd) -> Watched,
    ) -> Result<()> {
        let token = self.next;
        self.next += 1;
        self.listen(&fd, events, token)?;
        self.watched.insert(token, watched(fd));
        Ok(())
    }

    fn happened(&mut self, token: u64, events: EpollFlags) -> Result<()> {
        match (token, self.watched.get(&token)) {
            (REQUESTS, _) if events == EpollFlags::EPOLLIN => self.fork_spare(),
            (REQUESTS | CALLER, _) => self.end(),
            (_, Some(Watched::Worker { .. })) => self.worker_spoke(token),
            (_, Some(Watched::Child { .. })) => self.child_ended(token),
            (_, None) => Ok(()),
        }
    }

    /// Forks the worker that takes the next request, unless there is one.
    fn fork_spare(&mut self) -> Result<()> {
        if self.has_spare || self.ending {
            return Ok(());
        }
        let failed = |errno| Error::call("clone3", "for a worker", errno);
        let (ours, theirs) = socket::pair().map_err(failed)?;
        let cloned = match clone3(self.proof, &CloneFlags::default()) {
            // Out of memory or at a limit: whoever waits for a worker is served when that is over.
            Err(Errno::EAGAIN | Errno::ENOMEM) => {
                std::thread::sleep(Duration::from_millis(OUT_OF_THE_WAY.into()));
                return Ok(());
            }
            cloned => cloned.map_err(failed)?,
        };
        match cloned {
            Cloned::Child => {
                drop(ours);
                // The copies of other requests' sockets would keep their callers waiting.
                self.watched.clear();
                let host = worker::Host { facts: &self.facts, proof: self.proof };
                worker::run(&self.requests, &theirs, host, self.expects_container)
            }
            Cloned::Parent(pid, process) => {
                drop(theirs);
                let watched = |channel| Watched::Worker { pid, process, channel, busy: false };
                self.watch(ours, EpollFlags::EPOLLIN, watched)?;
                self.set_spare(true)
            }
        }
    }

    fn worker_spoke(&mut self, token: u64) -> Result<()> {
        let Some(Watched::Worker { process, channel, busy, .. }) = self.watched.get_mut(&token)
        else {
            return Ok(());
        };
        let mut message = [0; 8192];
        match socket::receive(&*channel, &mut message) {
            Ok(Some((_, fds))) if fds.is_empty() => {
                *busy = true;
                self.set_spare(false)
            }
            Ok(Some((read, fds))) => self.claimed(&message[..read], fds),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Ok(None) | Err(_) => {
                // It has closed its end, so it is ending.
                let _ = pidfd::reap(&*process, true);
                let was_spare = !*busy;
                self.forget(token);
                if was_spare {
                    self.set_spare(false)?;
                }
                self.fork_spare()
            }
        }
    }

    fn claimed(&mut self, claim: &[u8], fds: Vec<OwnedFd>) -> Result<()> {
        let mut fds = fds.into_iter();
        let (process, status) = (fds.next(), fds.next());
        if let (Some(ended), None) = (&process, &status) {
            // It went before a child and nobody asks how it ended.
            let _ = pidfd::reap(ended, true);
        }
        if let (Ok(claim), Some(process), Some(status)) =
            (serde_json::from_slice::<Claim>(claim), process, status)
        {
            self.expects_container = claim.container.is_some();
            let tree = mount_namespace(&claim);
            let watched = |process| Watched::Child { process, status, claim, _tree: tree };
            self.watch(process, EpollFlags::EPOLLIN, watched)?;
        }
        Ok(())
    }

    fn child_ended(&mut self, token: u64) -> Result<()> {
        let Some(Watched::Child { process, status, claim, .. }) = self.watched.get(&token) else {
            return Ok(());
        };
        match pidfd::reap(process, false) {
            Ok(Some(ended)) => {
                // Whoever wanted to know may be gone.
                let _ = nix::unistd::write(status, &ended.0.to_le_bytes());
            }
            // Traced, as by criu(8), it has ended for who traces it first: it is reported again.
            Ok(None) => {
                std::thread::sleep(Duration::from_millis(1));
                return Ok(());
            }
            Err(_) => {}
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
}

/// Of a container's init; a further process's namespace outlives it anyway.
fn mount_namespace(claim: &Claim) -> Option<OwnedFd> {
    let init = claim.container.as_ref()?.init;
    let path = format!("/proc/{}/ns/mnt", init.pid);
    std::fs::File::open(path).ok().map(OwnedFd::from)
}
