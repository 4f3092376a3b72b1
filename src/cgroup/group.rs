//! A container's cgroup as the state on disk remembers it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hierarchies::Version;
use super::systemd::Unit;
use crate::error::{Error, Result};

/// A container's directories, one in each hierarchy; the unified one last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cgroup {
    pub(super) directories: Vec<Directory>,
    /// The unit that they are of, where systemd made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<Unit>,
}

/// A container's directory in one hierarchy.
#[derive(Debug, Serialize, Deserialize)]
pub struct Directory {
    pub(super) path: PathBuf,
    pub(super) version: Version,
    pub(super) controllers: Vec<String>,
    /// Whether it was made for the container, rather than found.
    pub(super) made: bool,
    /// Its parents that may have been made for a container, deepest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parents: Vec<PathBuf>,
    /// Open from the making on, so that a path is walked once.
    #[serde(skip)]
    pub(super) handle: Option<OwnedFd>,
}

impl Directory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version of its hierarchy.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The controllers of its hierarchy.
    pub fn controllers(&self) -> &[String] {
        &self.controllers
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }
}

impl Cgroup {
    /// All directories; the unified one last.
    pub fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// The directory in the unified hierarchy.
    pub fn unified(&self) -> Option<&Directory> {
        self.directories.last().filter(|directory| directory.version == Version::Two)
    }

    /// The unified directory's descriptor, to be born into (`CLONE_INTO_CGROUP`).
    ///
    /// The clone answers `EBUSY` if the container handed controllers to sub-cgroups of its own,
    /// as an init system in it does, and `EOPNOTSUPP` in a threaded one.
    pub fn unified_fd(&self) -> Result<Option<OwnedFd>> {
        let Some(directory) = self.unified() else { return Ok(None) };
        let opened = Directory::open(&directory.path).map(Some);
        opened.map_err(|errno| Error::path_call("open", &directory.path, errno))
    }

    /// The directory whose controller is this one, in either version.
    pub fn directory(&self, controller: &str) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.has(controller))
    }
}
