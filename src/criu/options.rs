//! What may be asked of a checkpoint and of a restore.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::program::bytes;
use super::rpc::RequestOptions;
use crate::error::{Error, Kind, Result};

/// What may be asked of a checkpoint and of a restore.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The folder of the images, absolute.
    pub images: PathBuf,
    /// The folder of criu's logs and sockets, absolute; none for that of the images.
    pub work: Option<PathBuf>,
    /// The images of an earlier pre-dump, of whose memory only what changed since is written;
    /// relative to `images`, for criu stores it as a link there.
    pub parent: Option<PathBuf>,
    /// Let the container run on.
    pub leave_running: bool,
    /// Write its memory alone, as a parent for later ones, and let it run on.
    pub pre_dump: bool,
    /// Established TCP connections too.
    pub tcp_established: bool,
    /// Leave out TCP connections that nobody has accepted yet.
    pub tcp_skip_in_flight: bool,
    /// Link files that have no name any more back into their folders.
    pub link_remap: bool,
    /// Unix sockets whose other end is outside of the container.
    pub ext_unix_sk: bool,
    /// A session or a terminal that is of the caller's.
    pub shell_job: bool,
    /// Locks on files.
    pub file_locks: bool,
    /// Memory is fetched when it is used.
    pub lazy_pages: bool,
    /// Take from the images of parents what later ones replace.
    pub auto_dedup: bool,
    /// What becomes of cgroups.
    pub cgroups: CgroupMode,
    /// Who takes the memory in place of the images' folder.
    pub page_server: Option<PageServer>,
    /// A descriptor that gets a zero byte once memory can be fetched.
    pub status_fd: Option<RawFd>,
    /// The label of a security module in place of that in the images, `TYPE:NAME`.
    pub lsm_profile: Option<String>,
    /// The SELinux context of mounts in place of that in the images.
    pub lsm_mount_context: Option<String>,
}

/// Where memory is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageServer {
    /// A name or number of a host.
    pub address: String,
    /// Its TCP port.
    pub port: u16,
}

/// What criu does about cgroups (criu(8), `--manage-cgroups`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// criu's own default, which is soft.
    #[default]
    Default,
    /// Properties of those that it makes.
    Soft,
    /// Properties of all.
    Full,
    /// All must be missing when they are restored.
    Strict,
    /// None: the processes are in those of who restores them.
    Ignore,
}

impl CgroupMode {
    /// By its name; criu's default has none.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "soft" => Some(CgroupMode::Soft),
            "full" => Some(CgroupMode::Full),
            "strict" => Some(CgroupMode::Strict),
            "ignore" => Some(CgroupMode::Ignore),
            _ => None,
        }
    }

    /// `criu_cg_mode`.
    fn number(self) -> i32 {
        match self {
            CgroupMode::Ignore => 0,
            CgroupMode::Soft => 3,
            CgroupMode::Full => 4,
            CgroupMode::Strict => 5,
            CgroupMode::Default => 6,
        }
    }
}

/// The folders, open for criu to find through this process.
#[derive(Debug)]
pub(super) struct Folders {
    images: OwnedFd,
    work: Option<OwnedFd>,
}

impl Options {
    /// Refuses a parent that criu could not link to.
    ///
    /// # Errors
    /// It is absolute, or no folder.
    pub fn check_parent(&self) -> Result<()> {
        let Some(parent) = &self.parent else { return Ok(()) };
        let refused = |why| {
            Error::new(Kind::Other, format!("--parent-path {parent:?} {why}"))
                .hint(format!("give what leads from {:?} to the earlier images", self.images))
        };
        if parent.is_absolute() {
            return Err(refused("must be relative to the folder of the images"));
        }
        if !self.place_of(parent).is_dir() {
            return Err(refused("is no folder there"));
        }
        Ok(())
    }

    /// The images' folder may still be to be made: then its parents are known by their names.
    fn place_of(&self, parent: &Path) -> PathBuf {
        if self.images.exists() {
            return self.images.join(parent);
        }
        let mut place = self.images.clone();
        for part in parent.components() {
            match part {
                Component::ParentDir => drop(place.pop()),
                part => place.push(part),
            }
        }
        place
    }

    /// Where criu's log of that name is.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.work.as_ref().unwrap_or(&self.images).join(name)
    }

    /// Makes the folder of the images, which have what the processes' memory has: for root alone.
    pub(super) fn make_images(&self) -> Result<()> {
        make(&self.images)
    }

    pub(super) fn open_folders(&self) -> Result<Folders> {
        let work = self.work.as_deref().map(|work| make(work).and_then(|()| open_folder(work)));
        Ok(Folders { images: open_folder(&self.images)?, work: work.transpose()? })
    }

    /// What dump and restore ask alike.
    pub(super) fn request(
        &self,
        folders: &Folders,
        log: &str,
        annotated: Option<&str>,
    ) -> RequestOptions {
        /// criu's word for all but debugging.
        const LOG_LEVEL: i32 = 4;
        /// Where administrators have put what containers need.
        const CONFIG_FILE: &str = "/etc/criu/runc.conf";
        let config = annotated.unwrap_or(CONFIG_FILE);
        RequestOptions {
            images_dir_fd: folders.images.as_raw_fd(),
            work_dir_fd: folders.work.as_ref().map(AsRawFd::as_raw_fd),
            log_level: Some(LOG_LEVEL),
            log_file: Some(log.into()),
            config_file: Some(config.into()).filter(|_| !config.is_empty()),
            // Of which one is made empty: its devices are the engine's.
            empty_namespaces: Some(libc::CLONE_NEWNET as u32),
            notify_scripts: Some(true),
            orphan_pts_master: Some(true),
            // What criu before 1.7 knew in place of the mode.
            manage_cgroups: Some(true),
            manage_cgroups_mode: Some(self.cgroups.number()),
            shell_job: Some(self.shell_job),
            tcp_established: Some(self.tcp_established),
            ext_unix_sk: Some(self.ext_unix_sk),
            file_locks: Some(self.file_locks),
            auto_dedup: Some(self.auto_dedup),
            lazy_pages: Some(self.lazy_pages),
            parent_images: self.parent.as_deref().map(bytes),
            ..RequestOptions::default()
        }
    }
}

fn make(folder: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Error::io("mkdir", folder, &error))
}

pub(super) fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|errno| Error::path_call("open", path, errno))
}
