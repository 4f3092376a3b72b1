//! One container's folder: its files and its lock.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, open, openat, readlinkat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::root::explained;
use super::{ProcessId, State, Status};
use crate::error::{Error, Kind, Result};
use crate::interrupt::Interrupt;
use crate::sys::file::read_into;
use crate::sys::socket::listen_in;

const STATE: &str = "state.json";
const INIT: &str = "init";
/// Its name until the container is made to the end: who entered the init before would be in a copy of
/// the host's tree.
const NEW_INIT: &str = "init.new";
const LIMITS: &str = "limits";
const NEW_LIMITS: &str = "limits.new";
/// The name of the start socket in a container's folder.
pub const START_SOCKET: &str = "start";
/// Its name until all of the container is made.
const NEW_START_SOCKET: &str = "start.new";

/// What to do about a record that cannot be read.
const SPOILT: &str = "delete the container with force";

/// Of a record with the config of an engine.
const USUAL_LENGTH: usize = 16 * 1024;

/// One container's folder, by descriptor.
#[derive(Debug)]
pub struct Folder {
    id: String,
    path: PathBuf,
    fd: OwnedFd,
    lock: Option<Flock<OwnedFd>>,
}

impl Folder {
    pub(super) fn open(path: PathBuf, id: &str) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = open(&path, flags, Mode::empty())
            .map_err(|errno| Error::path_call("open", &path, errno))?;
        Ok(Folder { id: id.to_owned(), path, fd, lock: None })
    }

    /// Waits for the lock: one verb that changes the container at a time.
    pub fn locked(mut self, interrupt: Interrupt<'_>) -> Result<Self> {
        let copy = self.fd.try_clone().map_err(|error| Error::io("dup", &self.path, &error))?;
        let mut waiting = copy;
        self.lock = loop {
            match Flock::lock(waiting, FlockArg::LockExclusive) {
                Ok(lock) => break Some(lock),
                Err((fd, Errno::EINTR)) => {
                    interrupt()?;
                    waiting = fd;
                }
                Err((_, errno)) => return Err(Error::path_call("flock", &self.path, errno)),
            }
        };
        Ok(self)
    }

    /// Lets other verbs change the container.
    pub fn unlocked(self) -> Self {
        Folder { lock: None, ..self }
    }

    /// Whether another verb holds the lock.
    fn is_busy(&self) -> bool {
        if self.lock.is_some() {
            return false;
        }
        let Ok(copy) = open(&self.path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) else {
            return false;
        };
        matches!(Flock::lock(copy, FlockArg::LockExclusiveNonblock), Err((_, Errno::EAGAIN)))
    }

    /// Whether the folder has been removed since it was opened.
    pub fn is_deleted(&self) -> bool {
        // A file system that cannot tell any more has it no longer.
        nix::sys::stat::fstat(&self.fd).map_or(true, |stat| stat.st_nlink == 0)
    }

    /// The container is created to the end: it may be entered, and started if it waits for that.
    pub fn publish(&self, state: &mut State) -> Result<()> {
        match renameat(&self.fd, NEW_START_SOCKET, &self.fd, START_SOCKET) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                return Err(Error::path_call("rename", self.path.join(NEW_START_SOCKET), errno));
            }
        }
        // Last, for its name says that there is no more to come.
        renameat(&self.fd, NEW_INIT, &self.fd, INIT)
            .map_err(|errno| Error::path_call("rename", self.path.join(NEW_INIT), errno))?;
        state.published = true;
        Ok(())
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts on record what is going to be made. Written once: nothing in it changes later, so that
    /// no disk that fills up can take it away.
    pub fn record(&self, state: &State) -> Result<()> {
        let mut bytes = serde_json::to_vec(state).map_err(|error| {
            Error::new(Kind::Other, format!("write state of {:?}: {error}", self.id))
        })?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&state.config);
        self.write_new(STATE, &bytes)
    }

    /// Whether it is on record what was made.
    pub fn has_record(&self) -> bool {
        self.has(STATE)
    }

    fn has(&self, name: &str) -> bool {
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::sys::stat::fstatat(&self.fd, name, flags).is_ok()
    }

    /// Puts on record who the init is. Without this, the container was not created to the end.
    ///
    /// A symbolic link has its text from the moment on when it is there, and is read in one call.
    pub fn record_init(&self, init: ProcessId) -> Result<()> {
        symlinkat(init.to_string().as_str(), &self.fd, NEW_INIT)
            .map_err(|errno| self.unwritten("symlink", NEW_INIT, errno))
    }

    /// Writes down limits that are going to hold; nobody reads them before
    /// [`publish_limits`](Self::publish_limits), which no full disk can fail.
    pub fn prepare_limits(&self, limits: &[u8]) -> Result<()> {
        // One that was killed in between left its own.
        self.remove_file(NEW_LIMITS)?;
        self.write_new(NEW_LIMITS, limits)
    }

    /// The limits that were written down do not come to hold; one more try removes them as well.
    pub fn discard_limits(&self) {
        let _ = self.remove_file(NEW_LIMITS);
    }

    /// The limits that were written down hold now.
    pub fn publish_limits(&self) -> Result<()> {
        renameat(&self.fd, NEW_LIMITS, &self.fd, LIMITS)
            .map_err(|errno| Error::path_call("rename", self.path.join(NEW_LIMITS), errno))
    }

    /// The limits that were published last; none where the config's still hold.
    pub fn limits(&self) -> Result<Option<Vec<u8>>> {
        self.read_file(LIMITS)
    }

    /// The socket on which the init waits for its start; nobody finds it before the container is
    /// [published](Self::publish).
    pub fn listen_for_start(&self) -> Result<OwnedFd> {
        listen_in(self, NEW_START_SOCKET)
            .map_err(|errno| self.unwritten("bind", NEW_START_SOCKET, errno))
    }

    fn write_new(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| self.unwritten("open", name, errno))?;
        File::from(file).write_all(bytes).map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            self.unwritten("write", name, errno)
        })
    }

    fn unwritten(&self, call: &'static str, name: &str, errno: Errno) -> Error {
        explained(Error::path_call(call, self.path.join(name), errno))
    }

    /// Reads the state; none where its creator died, or is, before it was written to the end.
    pub fn read(&self) -> Result<Option<State>> {
        // Once more at last, for the new one may have become the other in between.
        let (mut init, mut published) = (None, false);
        for name in [INIT, NEW_INIT, INIT] {
            init = self.read_link(name)?;
            if init.is_some() {
                published = name == INIT;
                break;
            }
        }
        let Some(bytes) = self.read_file(STATE)? else { return Ok(None) };
        let init = init.as_deref().and_then(ProcessId::parse);
        let mut documents = serde_json::Deserializer::from_slice(&bytes).into_iter::<State>();
        let problem = match (documents.next(), init) {
            (Some(Ok(state)), init) => {
                let config = bytes[documents.byte_offset()..].into();
                let init = init.unwrap_or_default();
                return Ok(Some(State { init, published, config, ..state }));
            }
            (_, None) => return Ok(None),
            (Some(Err(error)), Some(_)) => error.to_string(),
            (None, Some(_)) => "it is empty".to_owned(),
        };
        let path = self.path.join(STATE);
        let message = format!("state of container {:?} in {path:?}: {problem}", self.id);
        Err(Error::new(Kind::Other, message).hint(SPOILT))
    }

    fn read_link(&self, name: &str) -> Result<Option<OsString>> {
        match readlinkat(&self.fd, name) {
            Err(Errno::ENOENT) => Ok(None),
            Ok(text) => Ok(Some(text)),
            Err(errno) => Err(Error::path_call("readlink", self.path.join(name), errno)
                .context(format_args!("state of container {:?}", self.id))
                .hint(SPOILT)),
        }
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let failed = |call, errno| Error::path_call(call, self.path.join(name), errno);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            file => file.map_err(|errno| failed("open", errno))?,
        };
        // Not by read_to_end(), which asks for the size and the position first.
        let mut bytes = Vec::with_capacity(USUAL_LENGTH);
        loop {
            read_into(&file, &mut bytes).map_err(|errno| failed("read", errno))?;
            // The kernel fills what it is given, but at the end.
            if bytes.len() < bytes.capacity() {
                return Ok(Some(bytes));
            }
            bytes.reserve(bytes.len());
        }
    }

    /// The status of the container with this state, as the host shows it now.
    pub fn status(&self, state: Option<&State>) -> Status {
        let Some(state) = state else {
            return if self.is_busy() { Status::Creating } else { Status::Stopped };
        };
        if !state.init.is_alive() {
            // Before there is an init, only the lock tells.
            let creating = state.init.pid == 0 && self.is_busy();
            return if creating { Status::Creating } else { Status::Stopped };
        }
        if !state.published {
            return Status::Creating;
        }
        if self.has(START_SOCKET) {
            return Status::Created;
        }
        if state.cgroup.frozen().unwrap_or(false) { Status::Paused } else { Status::Running }
    }

    /// Takes a file out of the folder; one that is not there is as good.
    pub fn remove_file(&self, name: &str) -> Result<()> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::path_call("unlink", self.path.join(name), errno)),
        }
    }

    /// Removes the folder and what is in it: the id is free again.
    pub fn remove(self) -> Result<()> {
        self.remove_tree()?;
        self.remove_notify()?;
        for name in [NEW_START_SOCKET, START_SOCKET, NEW_LIMITS, LIMITS, NEW_INIT, INIT, STATE] {
            self.remove_file(name)?;
        }
        match unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::path_call("rmdir", &self.path, errno)),
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
