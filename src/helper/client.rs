//! The side of the launcher's socket that lives in Python's process.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::request::{self, Reply, Request, Served};
use super::{GREETING, LAUNCHER};
use crate::error::{Error, Kind, Result};
use crate::interrupt::{self, Interrupt};
use crate::path_c_string;
use crate::sys::clone::Strings;
use crate::sys::{memfd, pidfd, socket, spawn};

/// A launcher, for as long as one of its processes has the other end of the socket.
#[derive(Debug)]
struct Launcher {
    socket: OwnedFd,
    /// A process forked from the one that started it starts its own.
    owner: u32,
}

static LAUNCHER_IN_USE: Mutex<Option<Arc<Launcher>>> = Mutex::new(None);

/// A process that the launcher started for us.
#[derive(Debug)]
pub struct Started {
    /// Its number on the host.
    pub pid: i32,
    /// Refers to it for good.
    pub pidfd: OwnedFd,
    /// Yields its wait status, 4 bytes, once it has ended; closed without, if the launcher died.
    pub status: OwnedFd,
    /// The caller's end of its terminal.
    pub terminal: Option<OwnedFd>,
    /// What the specification wants said and not refused.
    pub warnings: Vec<String>,
}

/// What a request needs of its caller.
pub struct Caller<'a> {
    /// The launcher's binary; asked for on first use only.
    pub binary: &'a dyn Fn() -> Result<std::path::PathBuf>,
    /// Asked after each signal whether to go on; its error ends the wait.
    pub interrupted: Interrupt<'a>,
}

/// Has the launcher carry out a request with these standard streams.
///
/// # Errors
/// Those of the verb; that the launcher cannot be started or died; what `interrupted` answers,
/// after which the launcher takes back what it made.
pub fn call(request: &Request, stdio: [&OwnedFd; 3], caller: &mut Caller<'_>) -> Result<Started> {
    let text = serde_json::to_vec(request)
        .map_err(|error| Error::new(Kind::Other, format!("write a request: {error}")))?;
    let (ours, status) = hand_over(&text, stdio, caller)?;
    interrupt::readable(&ours, None, &mut caller.interrupted)?;
    let (reply, mut fds) = request::receive(&ours, &mut caller.interrupted)?.ok_or_else(died)?;
    let reply: Reply = serde_json::from_slice(&reply)
        .map_err(|error| Error::new(Kind::Other, format!("read the launcher's reply: {error}")))?;
    let Served { pid, warnings } = reply?;
    let terminal = (fds.len() > 1).then(|| fds.pop()).flatten();
    let pidfd = fds.pop().ok_or_else(died)?;
    // Now it is ours: without this word the launcher would take it back.
    socket::send(&ours, b"kept", &[]).map_err(|_| died())?;
    Ok(Started { pid, pidfd, status, terminal, warnings })
}

/// Starts the launcher if there is none, for whoever wants to have that behind them.
///
/// # Errors
/// It cannot be started.
pub fn ensure(caller: &mut Caller<'_>) -> Result<()> {
    launcher(caller).map(drop)
}

fn died() -> Error {
    Error::new(Kind::Other, "the launcher died while it served this request")
        .hint("the next call starts a new one; running containers live on")
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socket::pair().map_err(|errno| Error::call("socketpair", "for the launcher", errno))
}

/// Hands the launcher a request: the caller's end of its socket, and of the pipe for the status.
///
/// A launcher that dies may still have a worker that takes no request any more. One that nobody
/// took has done nothing, and is handed to a new launcher.
fn hand_over(
    text: &[u8],
    stdio: [&OwnedFd; 3],
    caller: &mut Caller<'_>,
) -> Result<(OwnedFd, OwnedFd)> {
    const ATTEMPTS: usize = 5;
    for _ in 0..ATTEMPTS {
        let (ours, theirs) = pair()?;
        let (status, status_writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
            .map_err(|errno| Error::call("pipe2", "for an exit status", errno))?;
        let handed = socket::send(&launcher(caller)?.socket, b"request", &[theirs.as_fd()]);
        drop(theirs);
        let [stdin, stdout, stderr] = stdio.map(AsFd::as_fd);
        let sent = handed.and_then(|()| {
            request::send(&ours, text, &[stdin, stdout, stderr, status_writer.as_fd()])
        });
        match sent {
            Ok(()) if is_taken(&ours, caller)? => return Ok((ours, status)),
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => {}
            Err(errno) => return Err(Error::call("sendmsg", "to the launcher", errno)),
        }
    }
    Err(died())
}

/// Whether a worker has the request; false if it went with the last that could have had it.
fn is_taken(ours: &OwnedFd, caller: &mut Caller<'_>) -> Result<bool> {
    loop {
        interrupt::readable(ours, None, &mut caller.interrupted)?;
        match socket::receive(ours, &mut [0; 16]) {
            Err(Errno::EINTR) => (caller.interrupted)()?,
            Err(Errno::ECONNRESET) => return Ok(false),
            taken => {
                return taken
                    .map(|taken| taken.is_some())
                    .map_err(|errno| Error::call("recvmsg", "on a request's socket", errno));
            }
        }
    }
}

fn launcher(caller: &mut Caller<'_>) -> Result<Arc<Launcher>> {
    // A panic while it was held left a whole Option behind: there is no invariant to lose.
    let mut in_use = LAUNCHER_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    match in_use.as_ref().filter(|launcher| launcher.is_ours_and_alive()) {
        Some(launcher) => Ok(Arc::clone(launcher)),
        None => {
            let binary = (caller.binary)()?;
            Ok(Arc::clone(in_use.insert(Arc::new(Launcher::start(&binary)?))))
        }
    }
}

impl Launcher {
    fn is_ours_and_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        self.owner == std::process::id()
            && poll(&mut fds, PollTimeout::ZERO).is_ok()
            && !fds[0].revents().is_some_and(|events| events.intersects(gone))
    }

    /// Starts the binary from a sealed copy, as a process that is nobody's child, so that a
    /// program that waits for its children does not meet it.
    fn start(binary: &Path) -> Result<Self> {
        let file = File::open(binary).map_err(|error| {
            Error::io("open", binary, &error)
                .context("start the launcher")
                .hint("reinstall rscontainer")
        })?;
        let image = memfd::sealed_copy(&file)
            .map_err(|errno| Error::path_call("memfd_create", binary, errno))?;
        let (ours, theirs) = pair()?;
        let failed =
            |call: &str, errno| Error::path_call(call, binary, errno).context("start the launcher");
        let own =
            pidfd::open(nix::unistd::getpid()).map_err(|errno| failed("pidfd_open", errno))?;
        let argv = strings(&["rscontainer", LAUNCHER])?;
        let options = spawn::SpawnOptions {
            fds: vec![(theirs.as_fd(), 0), (own.as_fd(), 1)],
            new_session: true,
        };
        let path = path_c_string(Path::new(&format!("/proc/self/fd/{}", image.as_raw_fd())))?;
        let pid = spawn::spawn(&path, &argv, &strings(&[])?, &options)
            .map_err(|errno| failed("posix_spawn", errno))?;
        drop(theirs);
        let launcher = Launcher { socket: ours, owner: std::process::id() };
        let greeting = launcher.greeting();
        // It has forked the launcher proper by the time it greets, or has failed.
        let reaped = nix::sys::wait::waitpid(pid, None);
        debug_assert!(reaped.is_ok() || reaped == Err(Errno::ECHILD));
        match greeting?.as_deref() {
            Some(GREETING) => Ok(launcher),
            Some(other) => {
                let message = format!("{binary:?} is {other:?}, and this module is {GREETING:?}");
                Err(Error::new(Kind::Other, message).hint("reinstall rscontainer"))
            }
            None => Err(Error::new(Kind::Other, format!("the launcher {binary:?} ended at once"))
                .hint("run that program with --version to see why")),
        }
    }

    fn greeting(&self) -> Result<Option<String>> {
        let mut buffer = [0; 128];
        loop {
            match socket::receive(&self.socket, &mut buffer) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) | Ok(None) => return Ok(None),
                Ok(Some((read, _))) => {
                    return Ok(Some(String::from_utf8_lossy(&buffer[..read]).into_owned()));
                }
                Err(errno) => return Err(Error::call("recvmsg", "from the launcher", errno)),
            }
        }
    }
}

fn strings(words: &[&str]) -> Result<Strings> {
    words.iter().map(|word| path_c_string(Path::new(word))).collect::<Result<_>>().map(Strings::new)
}
