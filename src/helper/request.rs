//! What Python asks of the launcher, and what comes back.
//!
//! A request goes over a socket pair of its own, whose other end is handed to
//! the launcher: requests do not wait for each other, and a caller that gives
//! up closes its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::criu::{Options, Program};
use crate::error::{Error, Kind, Result};
use crate::sys::{privilege, socket};

/// One thing to do, with all that the launcher must not take from its own surroundings.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The folder of containers' states, absolute.
    pub root: PathBuf,
    /// The container.
    pub id: String,
    /// What to do.
    pub verb: Verb,
    /// End the container when the caller ends.
    pub attached: bool,
    /// Of the caller.
    pub ambient: Ambient,
}

/// What to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Verb {
    /// create, and start at once if `start`.
    Create {
        /// The bundle's folder, absolute.
        bundle: PathBuf,
        /// The config; none to read it from the bundle.
        config: Option<Box<RawValue>>,
        /// Start it too.
        start: bool,
        /// In place of the config's `process.args`.
        args: Option<Vec<String>>,
        /// In place of the config's `process.terminal`.
        terminal: Option<bool>,
    },
    /// restore.
    Restore {
        /// The bundle's folder, absolute.
        bundle: PathBuf,
        /// The config; none to read it from the bundle.
        config: Option<Box<RawValue>>,
        /// The images, and what is asked of them.
        options: Box<Options>,
        /// criu, with the caller's environment.
        program: Program,
    },
    /// exec.
    Exec {
        /// What is run.
        process: ProcessRequest,
        /// Cgroups inside of the container's to be in; none for the container's own.
        cgroups: Vec<String>,
    },
}

/// A further process; what is none comes from the config's process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ProcessRequest {
    /// The argument vector.
    pub args: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Option<Vec<String>>,
    /// The working directory.
    pub cwd: Option<PathBuf>,
    /// User and, unless none, group.
    pub user: Option<(u32, Option<u32>)>,
    /// Whether it gets a terminal.
    pub terminal: bool,
}

/// What a program inherits from its caller, whoever launches it (umask(2), getrlimit(2)).
#[derive(Debug, Serialize, Deserialize)]
pub struct Ambient {
    umask: u32,
    limits: Vec<(u64, u64)>,
}

impl Ambient {
    /// This process's.
    pub fn own() -> Self {
        let limits = (0..).map_while(privilege::limit).collect();
        Ambient { umask: umask().unwrap_or(0o022), limits }
    }

    /// Makes it this process's.
    pub(super) fn assume(&self) {
        nix::sys::stat::umask(Mode::from_bits_truncate(self.umask));
        for (resource, (soft, hard)) in (0..).zip(&self.limits) {
            if privilege::limit(resource) != Some((*soft, *hard)) {
                // The caller may have a higher one than we may set: then ours is as near as it gets.
                let _ = privilege::set_limit(resource, *soft, *hard);
            }
        }
    }
}

/// The one way to read it without changing it for other threads.
fn umask() -> Option<u32> {
    let mut status = [0; 512];
    let mut file = std::fs::File::open("/proc/self/status").ok()?;
    // It is in the second line, after a name of 64 bytes at most.
    let read = std::io::Read::read(&mut file, &mut status).ok()?;
    let status = String::from_utf8_lossy(&status[..read]);
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(umask.trim(), 8).ok()
}

/// A process that was started; its pidfd comes along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Served {
    pub(super) pid: i32,
    /// What the specification wants said and not refused.
    pub(super) warnings: Vec<String>,
}

/// What comes back, or what went wrong.
pub(super) type Reply = std::result::Result<Served, Error>;

/// Bytes in one message; a longer text goes in several.
const PIECE: usize = 64 * 1024;
/// No config is longer; what is longer is refused before it is read.
const LONGEST: usize = 64 * 1024 * 1024;

/// Sends a text in pieces, descriptors with the first, the length before all.
pub(super) fn send(socket: impl AsFd, text: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
    socket::send(&socket, &(text.len() as u64).to_le_bytes(), fds)?;
    text.chunks(PIECE).try_for_each(|piece| socket::send(&socket, piece, &[]))
}

/// Receives what [`send`] sent; none when the other end is closed. `interrupted` is asked whether
/// to go on after a signal.
pub(super) fn receive(
    socket: impl AsFd,
    mut interrupted: impl FnMut() -> Result<()>,
) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut next = |buffer: &mut [u8]| loop {
        match socket::receive(&socket, buffer) {
            Err(Errno::EINTR) => interrupted()?,
            Err(Errno::ECONNRESET) => return Ok(None),
            received => {
                return received
                    .map_err(|errno| Error::call("recvmsg", "on a request's socket", errno));
            }
        }
    };
    let mut length = [0; 8];
    let Some((8, fds)) = next(&mut length)? else { return Ok(None) };
    let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(Error::new(Kind::Other, format!("a request of {length} bytes is refused")));
    }
    let mut text = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let Some((read, _)) = next(&mut text[filled..])? else { return Ok(None) };
        filled += read;
    }
    Ok(Some((text, fds)))
}

impl ProcessRequest {
    /// The process of the config with what is asked in place of its own.
    pub fn over(&self, spec: &oci_spec::runtime::Spec) -> Result<oci_spec::runtime::Process> {
        let mut process = spec.process().clone().unwrap_or_default();
        process.set_args(Some(self.args.clone()));
        process.set_terminal(Some(self.terminal));
        if let Some(env) = &self.env {
            process.set_env(Some(env.clone()));
        }
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if let Some((uid, gid)) = self.user {
            // As su(1) would not, but as runc does: the config's group unless one is named, and
            // its further groups and umask in any case.
            let mut user = process.user().clone();
            user.set_uid(uid);
            user.set_gid(gid.unwrap_or(user.gid()));
            process.set_user(user);
        }
        crate::spec::validate_process(&process)?;
        Ok(process)
    }
}
