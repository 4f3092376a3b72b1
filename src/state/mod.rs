//! What is known of a container, on disk: it outlives whoever created it.
//!
//! `<root>/<id>/` holds `state.json`, which records what was resolved at
//! creation so that nothing is derived anew later, `init`, who that is, and until the container is
//! started `start`, the socket on which its init waits. The folder's flock(2)
//! is the container's lock.

mod process;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::interrupt::{Interrupt, never};
use crate::plan::HookPrograms;

pub use process::{ProcessId, pidfd_of, status_of_zombie};

const STATE: &str = "state.json";
const INIT: &str = "init";
/// The name of the start socket in a container's folder.
pub const START_SOCKET: &str = "start";
/// Its name until the container is created to the end.
pub const NEW_START_SOCKET: &str = "start.new";
/// What a file's name may have.
const LONGEST_ID: usize = 255;

/// The status of a container (runtime.md#state), and runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being created.
    Creating,
    /// Waiting for start.
    Created,
    /// Its program runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Its program has ended.
    Stopped,
}

impl Status {
    /// The specification's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What `state.json` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Of the config.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// Its init, on record in a file of its own; the default until there is one.
    #[serde(skip)]
    pub init: ProcessId,
    /// The bundle's folder, absolute.
    pub bundle: PathBuf,
    /// Its rootfs, absolute.
    pub rootfs: PathBuf,
    /// When, as RFC 3339.
    pub created: String,
    /// The user who created it.
    pub owner: u32,
    /// Of the config.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Where it is in the host's hierarchies.
    pub cgroup: Cgroup,
    /// For poststart and poststop.
    pub hooks: HookPrograms,
    /// The config that it was created from; exec starts from its process.
    pub config: Box<RawValue>,
}

/// The OCI state of a container (runtime.md#state), with what runc adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: Status,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    owner: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: &'a std::collections::BTreeMap<String, String>,
}

impl State {
    /// The state as the specification has it.
    pub fn to_oci(&self, status: Status) -> OciState<'_> {
        OciState {
            oci_version: &self.oci_version,
            id: &self.id,
            // The specification has no pid for what does not run.
            pid: if status == Status::Stopped { 0 } else { self.init.pid },
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            owner: user_name(self.owner),
            annotations: &self.annotations,
        }
    }

    /// The same as JSON, as hooks read it.
    pub fn to_oci_json(&self, status: Status) -> Vec<u8> {
        // Strings and numbers: nothing in it that JSON has no form for.
        serde_json::to_vec(&self.to_oci(status)).unwrap_or_default()
    }
}

pub(crate) fn user_name(uid: u32) -> String {
    // Root's name needs no look-up, which would read /etc/passwd or ask a name service.
    match uid {
        0 => "root".to_owned(),
        uid => uid.to_string(),
    }
}

/// The folder of all containers' states.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// The given folder, or the default: `/run/rscontainer`, for an ordinary user
    /// `$XDG_RUNTIME_DIR/rscontainer`.
    pub fn new(given: Option<&Path>) -> Result<Self> {
        if let Some(given) = given {
            return std::path::absolute(given)
                .map(Root)
                .map_err(|error| Error::io("getcwd", given, &error));
        }
        if nix::unistd::geteuid().is_root() {
            return Ok(Root("/run/rscontainer".into()));
        }
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
            Some(folder) => Ok(Root(Path::new(&folder).join("rscontainer"))),
            None => Err(Error::new(Kind::Other, "no folder for the containers' state")
                .hint("set XDG_RUNTIME_DIR, or name a folder with root")),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Ids of all containers, sorted.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("opendir", &self.0, &error)),
        };
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| check_id(name).is_ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Refuses what no container can be called.
    pub fn check(&self, id: &str) -> Result<()> {
        check_id(id)
    }

    /// Takes an id: makes its folder, which fails if there is one, and locks it.
    pub fn reserve(&self, id: &str) -> Result<Folder> {
        self.check(id)?;
        let mode = Mode::S_IRWXU;
        let path = self.0.join(id);
        let made = match mkdirat(AT_FDCWD, &path, mode) {
            Err(Errno::ENOENT) => {
                std::fs::create_dir_all(&self.0).map_err(|error| {
                    Error::io("mkdir", &self.0, &error)
                        .context("make the folder of containers' states")
                })?;
                // Others must not see the containers' configs, nor reach their start sockets.
                let _ = nix::sys::stat::fchmodat(
                    AT_FDCWD,
                    &self.0,
                    mode,
                    nix::sys::stat::FchmodatFlags::FollowSymlink,
                );
                mkdirat(AT_FDCWD, &path, mode)
            }
            made => made,
        };
        match made {
            // Nobody else can hold it: the folder is new.
            Ok(()) => Folder::open(path, id)?.locked(&mut never),
            Err(Errno::EEXIST) => Err(Error::new(
                Kind::AlreadyExists,
                format!("container {id:?} exists already (in {:?})", self.0),
            )
            .hint("choose another id, or delete that container first")),
            Err(errno) => Err(Error::path_call("mkdir", path, errno)),
        }
    }

    /// The folder of an existing container.
    pub fn find(&self, id: &str) -> Result<Folder> {
        check_id(id)?;
        Folder::open(self.0.join(id), id).map_err(|error| match error.errno() {
            Some(Errno::ENOENT) => {
                Error::new(Kind::NotFound, format!("no container {id:?} in {:?}", self.0))
                    .hint("see which there are with list, or name another folder with root")
            }
            _ => error,
        })
    }
}

/// An id is a file's name, and appears in cgroups' and logs'.
fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    let problem = if id.is_empty() {
        "it is empty".to_owned()
    } else if id.len() > LONGEST_ID {
        format!("it has {} bytes, and {LONGEST_ID} is the most", id.len())
    } else if id == "." || id == ".." || !id.bytes().all(plain) {
        "only letters, digits and _ + - . may be in it".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = id.chars().take(64).collect();
    Err(Error::new(Kind::Other, format!("no container can be called {shown:?}: {problem}")))
}

/// One container's folder, by descriptor.
#[derive(Debug)]
pub struct Folder {
    id: String,
    path: PathBuf,
    fd: OwnedFd,
    lock: Option<Flock<OwnedFd>>,
}

impl Folder {
    fn open(path: PathBuf, id: &str) -> Result<Self> {
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
        nix::sys::stat::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The container is created to the end and may be started; nothing where it is started at once.
    pub fn publish_start_socket(&self) -> Result<()> {
        match renameat(&self.fd, NEW_START_SOCKET, &self.fd, START_SOCKET) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::path_call("rename", self.path.join(NEW_START_SOCKET), errno)),
        }
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
        let bytes = serde_json::to_vec(state).map_err(|error| {
            Error::new(Kind::Other, format!("write state of {:?}: {error}", self.id))
        })?;
        self.write_new(STATE, &bytes)
    }

    /// Puts on record who the init is. Without this, the container was not created to the end.
    pub fn record_init(&self, init: ProcessId) -> Result<()> {
        self.write_new(INIT, format!("{} {}\n", init.pid, init.start_time).as_bytes())
    }

    fn write_new(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| Error::path_call("open", &path, errno))?;
        File::from(file).write_all(bytes).map_err(|error| {
            let failed = Error::io("write", &path, &error);
            match failed.errno() {
                Some(Errno::ENOSPC | Errno::EDQUOT) => {
                    failed.hint("free space there, or name another folder with root")
                }
                _ => failed,
            }
        })
    }

    /// Reads the state; none where its creator died, or is, before it was written to the end.
    pub fn read(&self) -> Result<Option<State>> {
        let init = self.read_file(INIT)?;
        let Some(bytes) = self.read_file(STATE)? else { return Ok(None) };
        // One line that is there is whole: the kernel writes it in one piece.
        let init = init.as_deref().and_then(ProcessId::parse);
        match (serde_json::from_slice::<State>(&bytes), init) {
            (Ok(state), init) => Ok(Some(State { init: init.unwrap_or_default(), ..state })),
            (Err(_), None) => Ok(None),
            (Err(error), Some(_)) => {
                let path = self.path.join(STATE);
                let message = format!("state of container {:?} in {path:?}: {error}", self.id);
                Err(Error::new(Kind::Other, message).hint("delete the container with force"))
            }
        }
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            file => file.map_err(|errno| Error::path_call("open", &path, errno))?,
        };
        let mut bytes = Vec::with_capacity(8192);
        File::from(file)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read", &path, &error))?;
        Ok(Some(bytes))
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
        let has = |name: &str| {
            let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
            nix::sys::stat::fstatat(&self.fd, name, flags).is_ok()
        };
        // In this order, for the one becomes the other.
        if has(NEW_START_SOCKET) {
            return Status::Creating;
        }
        if has(START_SOCKET) {
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
        for name in [NEW_START_SOCKET, START_SOCKET, INIT, STATE] {
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
