//! One criu process and the conversation with it.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;
use prost::Message;

use super::failure;
use super::program::{Program, bytes};
use super::rpc::{Features, Request, RequestOptions, Response, kind};
use crate::error::{Error, Kind, Result};
use crate::interrupt::{self, Interrupt, never};
use crate::sys::clone::{SingleThreaded, Strings};
use crate::sys::{pidfd, socket, spawn};

/// Whose child criu is, and with it a container that it restores.
#[derive(Debug, Clone, Copy)]
pub enum Parent {
    /// This process's.
    Here,
    /// This process's parent's, which reaps both.
    Above(SingleThreaded),
}

/// A criu process that serves requests.
#[derive(Debug)]
pub(super) struct Session {
    socket: Option<OwnedFd>,
    pid: Pid,
    process: OwnedFd,
    parent: Parent,
    version: i32,
}

/// What criu tells on its way, and waits for the word to go on.
#[derive(Debug)]
pub struct Notification {
    /// Which moment it is.
    pub script: String,
    /// The restored init.
    pub pid: Pid,
    /// The end of a terminal that is in no container.
    pub terminal: Option<OwnedFd>,
}

/// Messages are far shorter.
const LONGEST: usize = 64 * 1024;

/// What every feature that is used needs at least.
const OLDEST: i32 = version(3, 0, 0);

/// As numbers that can be compared.
pub(super) const fn version(major: i32, minor: i32, sublevel: i32) -> i32 {
    major * 10_000 + minor * 100 + sublevel
}

impl Session {
    /// Starts criu with these standard streams and these further descriptors, which it has by the
    /// numbers that they have here. In a session of its own it is safe from a Ctrl-C: it may be inside
    /// of the processes, and must not end as it is.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(
        program: &Program,
        parent: Parent,
        stdio: Option<[BorrowedFd<'_>; 3]>,
        further: &[OwnedFd],
        new_session: bool,
    ) -> Result<Self> {
        let (ours, theirs) =
            socket::pair().map_err(|errno| Error::call("socketpair", "for criu", errno))?;
        let mut fds: Vec<_> = stdio.into_iter().flatten().zip(0..).collect();
        let kept = further.iter().chain([&theirs]).map(|fd| (fd.as_fd(), fd.as_raw_fd()));
        fds.extend(kept);
        let options = spawn::SpawnOptions { fds, new_session };
        let failed = |errno| Error::path_call("posix_spawn", &program.path, errno);
        let text = |text: String| CString::new(text).map_err(|_| failed(Errno::EINVAL));
        let path = CString::new(bytes(&program.path)).map_err(|_| failed(Errno::EINVAL))?;
        let argv = ["criu".to_owned(), "swrk".to_owned(), theirs.as_raw_fd().to_string()];
        let argv = Strings::new(argv.into_iter().map(text).collect::<Result<_>>()?);
        let envp = program.env.iter().cloned().map(text).collect::<Result<_>>()?;
        let envp = Strings::new(envp);
        let (pid, process) = match parent {
            Parent::Here => {
                let pid = spawn::spawn(&path, &argv, &envp, &options).map_err(failed)?;
                (pid, pidfd::open(pid).map_err(|errno| Error::call("pidfd_open", pid, errno))?)
            }
            Parent::Above(proof) => {
                spawn::spawn_sibling(proof, &path, &argv, &envp, &options).map_err(failed)?
            }
        };
        // Else nobody would hear that criu has ended.
        drop(theirs);
        Ok(Session { socket: Some(ours), pid, process, parent, version: 0 })
    }

    /// Starts one that has no streams, as this process's child, and asks for its version.
    ///
    /// # Errors
    /// It cannot be started, is too old, or does not work.
    pub(super) fn greet(program: &Program) -> Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|error| Error::io("open", "/dev/null", &error))?;
        let mut session = Self::start(program, Parent::Here, Some([null.as_fd(); 3]), &[], true)?;
        session.version = session.ask_version()?;
        session.need(OLDEST, "checkpoints of containers")?;
        Ok(session)
    }

    /// A further descriptor of it.
    pub(super) fn process(&self) -> Result<OwnedFd> {
        self.process.try_clone().map_err(|error| Error::io("dup", "of criu", &error))
    }

    /// Its number.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    fn ask_version(&self) -> Result<i32> {
        let request = Request { kind: kind::VERSION, keep_open: Some(true), ..Request::default() };
        let known = self.ask(&request)?.version.ok_or_else(|| out_of_turn("VERSION"))?;
        Ok(version(known.major, known.minor, known.sublevel.unwrap_or(0)))
    }

    /// Whether it is of this version or a later one.
    pub(super) fn has(&self, version: i32) -> bool {
        self.version >= version
    }

    /// Refuses a criu that is older than what `feature` came with.
    pub(super) fn need(&self, version: i32, feature: &str) -> Result<()> {
        if self.has(version) {
            return Ok(());
        }
        let shown = |it: i32| format!("{}.{}", it / 10_000, it / 100 % 100);
        let message =
            format!("{feature} need criu {}, and this is {}", shown(version), shown(self.version));
        Err(Error::new(Kind::Other, message)
            .hint("put a newer one before it on PATH, or do without"))
    }

    /// Refuses what this criu or this kernel has not.
    pub(super) fn need_features(&self, wanted: Features) -> Result<()> {
        let features = Some(wanted);
        let request = Request {
            kind: kind::FEATURE_CHECK,
            keep_open: Some(true),
            features,
            ..Request::default()
        };
        let found = self.ask(&request)?.features.unwrap_or_default();
        let lacks = |wanted: Option<bool>, found: Option<bool>| {
            wanted == Some(true) && found == Some(false)
        };
        let missing = if lacks(wanted.mem_track, found.mem_track) {
            "a pre-dump needs a kernel that tracks changes of memory (CONFIG_MEM_SOFT_DIRTY)"
        } else if lacks(wanted.lazy_pages, found.lazy_pages) {
            "lazy pages need a kernel and a criu with userfaultfd(2)"
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Other, missing).hint("checkpoint without"))
    }

    fn ask(&self, request: &Request) -> Result<Response> {
        self.send(request)?;
        let (response, _) = self.receive()?;
        if response.success { Ok(response) } else { Err(failure::failed(&response, Path::new(""))) }
    }

    /// Has a request carried out; `notified` is told of its moments, and its error ends it.
    ///
    /// `interrupt` is asked on the way. What criu has begun it must undo itself, for it may be inside
    /// of the processes: so it is told at the next moment, and always waited for.
    ///
    /// # Errors
    /// What criu, `notified` or `interrupt` says.
    pub(super) fn carry_out(
        mut self,
        kind: i32,
        options: RequestOptions,
        log: &Path,
        notified: &mut dyn FnMut(Notification) -> Result<()>,
        interrupt: Interrupt<'_>,
    ) -> Result<()> {
        self.send(&Request { kind, options: Some(options), ..Request::default() })?;
        let mut given_up = Ok(());
        let response = loop {
            if given_up.is_ok() {
                given_up = self.await_word(interrupt);
            }
            let (mut response, mut fds) = self.receive()?;
            let Some(notify) = response.notify.take() else { break response };
            let script = String::from_utf8_lossy(&notify.script.unwrap_or_default()).into_owned();
            let pid = Pid::from_raw(notify.pid.unwrap_or(0));
            if given_up.is_ok() {
                given_up = notified(Notification { script, pid, terminal: fds.pop() });
            }
            let (kind, notify_success) = (kind::NOTIFY, Some(given_up.is_ok()));
            self.send(&Request { kind, notify_success, ..Request::default() })?;
        };
        self.end();
        given_up?;
        match response.success {
            true => Ok(()),
            false => Err(failure::failed(&response, log)),
        }
    }

    fn await_word(&self, interrupt: Interrupt<'_>) -> Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        interrupt::readable(socket, None, interrupt).map(drop)
    }

    fn send(&self, request: &Request) -> Result<()> {
        let Some(socket) = &self.socket else { return Err(ended()) };
        socket::send(socket, &request.encode_to_vec(), &[]).map_err(|errno| match errno {
            Errno::EPIPE | Errno::ECONNRESET => ended(),
            _ => Error::call("sendmsg", "to criu", errno),
        })
    }

    fn receive(&self) -> Result<(Response, Vec<OwnedFd>)> {
        let Some(socket) = &self.socket else { return Err(ended()) };
        let mut buffer = vec![0; LONGEST];
        let received = loop {
            match socket::receive(socket, &mut buffer) {
                Err(Errno::EINTR) => {}
                received => break received,
            }
        };
        let (read, fds) = match received {
            Ok(Some(message)) => message,
            Ok(None) | Err(Errno::ECONNRESET) => return Err(ended()),
            Err(errno) => return Err(Error::call("recvmsg", "from criu", errno)),
        };
        let response = Response::decode(&buffer[..read]).map_err(|_| out_of_turn("message"))?;
        Ok((response, fds))
    }

    /// Lets it go, and waits until it is gone.
    fn end(&mut self) {
        self.socket = None;
        let _ = interrupt::readable(&self.process, None, &mut never);
        if matches!(self.parent, Parent::Here) {
            let _ = pidfd::reap(&self.process, true);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.socket.is_some() {
            self.end();
        }
    }
}

fn ended() -> Error {
    Error::new(Kind::Other, "criu ended before it answered")
        .hint("see what `criu check` says of it on this kernel")
}

fn out_of_turn(what: &str) -> Error {
    Error::new(Kind::Other, format!("criu answered with no {what} that can be read"))
}
