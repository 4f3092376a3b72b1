//! The folder of all containers' states.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, mkdirat};

use super::Folder;
use crate::error::{Error, Kind, Result};
use crate::interrupt::{Interrupt, never};
use crate::suggest::nearest;
use crate::sys::privilege;

/// What a file's name may have.
const LONGEST_ID: usize = 255;

/// The folder of all containers' states.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// The given folder, or the default: `/run/rscontainer`, for an ordinary user
    /// `$XDG_RUNTIME_DIR/rscontainer`, or `/run/user/UID/rscontainer` without that variable.
    pub fn new(given: Option<&Path>) -> Result<Self> {
        if let Some(given) = given {
            let path =
                std::path::absolute(given).map_err(|error| Error::io("getcwd", given, &error))?;
            if path == Path::new("/") {
                return Err(Error::new(Kind::Other, "/ is no folder for the containers' states")
                    .hint("name another as root"));
            }
            return Ok(Root(path));
        }
        let uid = nix::unistd::geteuid();
        let named = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
        let ordinary = !uid.is_root() || privilege::in_user_namespace();
        if let Some(folder) = named.filter(|_| ordinary) {
            return Ok(Root(Path::new(&folder).join("rscontainer")));
        }
        if uid.is_root() {
            return Ok(Root("/run/rscontainer".into()));
        }
        // Where a session's manager puts it; su(1) and cron(8) do not hand the variable on.
        let usual = PathBuf::from(format!("/run/user/{uid}"));
        match std::fs::metadata(&usual) {
            Ok(found) if found.uid() == uid.as_raw() => Ok(Root(usual.join("rscontainer"))),
            _ => Err(Error::new(Kind::Other, "no folder for the containers' states")
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
            Err(error) => return Err(explained(Error::io("opendir", &self.0, &error))),
        };
        let mut ids: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
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
        let path = self.0.join(id);
        loop {
            match self.make(&path)? {
                Ok(()) => {}
                Err(Errno::EEXIST) => {
                    return Err(Error::new(
                        Kind::AlreadyExists,
                        format!("container {id:?} exists already (in {:?})", self.0),
                    )
                    .hint("choose another id, or delete that container first"));
                }
                Err(errno) => return Err(explained(Error::path_call("mkdir", path, errno))),
            }
            // Until it is locked it looks like what a killed deletion leaves, and may be removed.
            let locked = Folder::open(path.clone(), id).and_then(|it| it.locked(&mut never));
            match locked {
                Ok(folder) if folder.is_deleted() => {}
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                locked => return locked,
            }
        }
    }

    /// Makes a container's folder, and the folder of all where that is missing.
    fn make(&self, path: &Path) -> Result<nix::Result<()>> {
        let mode = Mode::S_IRWXU;
        match mkdirat(AT_FDCWD, path, mode) {
            Err(Errno::ENOENT) => {}
            made => return Ok(made),
        }
        std::fs::create_dir_all(&self.0).map_err(|error| {
            explained(Error::io("mkdir", &self.0, &error))
                .context("make the folder of containers' states")
        })?;
        // Others must not see the containers' configs, nor reach their start sockets.
        let _ = nix::sys::stat::fchmodat(
            AT_FDCWD,
            &self.0,
            mode,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        );
        Ok(mkdirat(AT_FDCWD, path, mode))
    }

    /// The folder of an existing container.
    pub fn find(&self, id: &str) -> Result<Folder> {
        check_id(id)?;
        Folder::open(self.0.join(id), id).map_err(|error| match error.errno() {
            Some(Errno::ENOENT) => self.missing(id),
            _ => explained(error),
        })
    }

    /// The same for a verb that changes it, which holds the lock then.
    ///
    /// # Errors
    /// As of [`find`](Self::find); it was deleted while another verb had the lock; the wait was
    /// interrupted.
    pub fn find_locked(&self, id: &str, interrupt: Interrupt<'_>) -> Result<Folder> {
        let folder = self.find(id)?.locked(interrupt)?;
        if folder.is_deleted() {
            return Err(self.missing(id));
        }
        Ok(folder)
    }

    fn missing(&self, id: &str) -> Error {
        let error =
            Error::new(Kind::NotFound, format!("container {id:?} does not exist in {:?}", self.0));
        let ids = self.ids().unwrap_or_default();
        match nearest(id, ids.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error.hint(
                "see which there are with `rscontainer list` or Container.list(), or name another \
                 folder with root",
            ),
        }
    }
}

/// With what to do about it.
pub(super) fn explained(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EACCES | Errno::EPERM) => error.hint(
            "it is another user's: name a folder of your own with root, or set XDG_RUNTIME_DIR",
        ),
        Some(Errno::ENOSPC | Errno::EDQUOT) => {
            error.hint("free space there, or name another folder with root")
        }
        _ => error,
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
    Err(Error::new(Kind::Other, format!("no container can be called {shown:?}: {problem}"))
        .hint("choose another id"))
}
