//! A service manager's NOTIFY_SOCKET (sd_notify(3)): it hears that the container's program is ready,
//! and which process that is, from a process that it knows.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::foreground::beside;
use crate::container::Running;
use crate::error::{Error, Result};
use crate::interrupt::{self, never};
use crate::plan::step::StartSignal;
use crate::state::{Folder, Root, Status};
use crate::sys::socket;

/// How long a manager is waited for that does not say it has heard all.
const PATIENCE: Duration = Duration::from_secs(30);

/// The manager that started this process, if it wants to hear of it.
pub(super) fn manager() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

/// Where a container's program says that it is ready, once there is a container.
#[derive(Debug, Default)]
pub(super) struct Ear(OnceCell<UnixDatagram>);

impl Ear {
    /// Makes the folder for it, and listens if the program starts at once.
    pub(super) fn open(&self, start: StartSignal, folder: &Folder) -> Result<()> {
        folder.make_notify()?;
        if start == StartSignal::Parent {
            let _ = self.0.set(folder.listen_notify()?);
        }
        Ok(())
    }

    /// Waits until the program is ready or has ended, and tells the manager; with `detach` which
    /// process it is, else that it is this one, which does not wait.
    pub(super) fn attend(self, running: &Running, detach: bool) -> Result<()> {
        let (Some(ear), Some(manager)) = (self.0.into_inner(), manager()) else { return Ok(()) };
        if detach {
            return pass_on(&ear, &manager, running.pidfd.as_fd(), running.pid.as_raw());
        }
        let pidfd = running.pidfd.try_clone().map_err(|e| Error::io("dup", "a pidfd", &e))?;
        let own = std::process::id() as i32;
        beside(move || {
            if let Err(error) = pass_on(&ear, &manager, pidfd.as_fd(), own) {
                crate::warn(&error.to_string());
            }
        })
        .map_err(|error| Error::io("clone", "to listen for the program", &error))
    }
}

/// `start` of a container that was created with such a socket: waits as [`Ear::attend`] does.
pub(super) fn start(root: &Root, id: &str) -> Result<()> {
    let folder = root.find(id)?;
    let created = || crate::container::status(root, id) == Ok(Status::Created);
    let manager = manager().filter(|_| folder.has_notify() && created());
    let ear = manager.as_ref().map(|_| folder.listen_notify()).transpose()?;
    crate::container::start(root, id, &mut never)?;
    let init = crate::container::init(root, id)?;
    match (ear, manager, init) {
        (Some(ear), Some(manager), Some((pid, pidfd))) => {
            pass_on(&ear, &manager, pidfd.as_fd(), pid)
        }
        _ => Ok(()),
    }
}

fn pass_on(
    ear: &UnixDatagram,
    manager: &OsStr,
    process: BorrowedFd<'_>,
    main_pid: i32,
) -> Result<()> {
    let Some(ready) = ready(ear, process)? else { return Ok(()) };
    let failed = |error: std::io::Error| Error::io("send", manager, &error);
    let to = UnixDatagram::unbound().map_err(failed)?;
    let connected = match manager.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name).and_then(|it| to.connect_addr(&it)),
        None => to.connect(manager),
    };
    connected.map_err(|error| {
        Error::io("connect", manager, &error).hint("NOTIFY_SOCKET names no socket that is heard")
    })?;
    to.send(&[&ready, &b"\n"[..]].concat()).map_err(failed)?;
    to.send(format!("MAINPID={main_pid}\n").as_bytes()).map_err(failed)?;
    barrier(&to)
}

/// The line that says so; none when the program ends without a word.
fn ready(ear: &UnixDatagram, process: BorrowedFd<'_>) -> Result<Option<Vec<u8>>> {
    let mut message = [0; 4096];
    loop {
        let mut polled =
            [PollFd::new(ear.as_fd(), PollFlags::POLLIN), PollFd::new(process, PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::call("poll", "on the program's word", errno)),
            Ok(_) => {}
        }
        if polled[0].any() != Some(true) {
            return Ok(None);
        }
        let read = ear.recv(&mut message).map_err(|e| Error::io("recv", "the socket", &e))?;
        let mut lines = message[..read].split(|byte| *byte == b'\n');
        if let Some(line) = lines.find(|line| line.starts_with(b"READY=")) {
            return Ok(Some(line.to_owned()));
        }
    }
}

/// This process may end now: the manager looks up who sent what while it is there
/// (sd_notify_barrier(3)).
fn barrier(to: &UnixDatagram) -> Result<()> {
    let failed = |call, errno| Error::call(call, "to wait for the service manager", errno);
    let (reader, writer) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("pipe2", errno))?;
    socket::send(to, b"BARRIER=1", &[writer.as_fd()]).map_err(|errno| failed("sendmsg", errno))?;
    drop(writer);
    if !interrupt::readable(&reader, Some(Instant::now() + PATIENCE), &mut never)? {
        crate::warn("the service manager does not say that it has heard all; going on");
    }
    Ok(())
}
