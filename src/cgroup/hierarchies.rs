//! Which hierarchies are mounted where, and where this process is in them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};
use serde::{Deserialize, Serialize};

use super::files::read;
use crate::error::{Error, Result};

/// The version of a hierarchy's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// A tree for each controller or few of them.
    One,
    /// The unified hierarchy.
    Two,
}

/// How the host lays its hierarchies out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// No cgroup is mounted.
    Absent,
    /// Version 1 alone.
    Legacy,
    /// Version 1, with the unified hierarchy beside it.
    Hybrid,
    /// Version 2 alone.
    Unified,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The version of its interface.
    pub version: Version,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The controllers attached to it.
    pub controllers: Vec<String>,
    /// Its name, where it was mounted with one (`name=systemd`).
    pub name: Option<String>,
    /// This process's cgroup, below the mount point.
    pub own: PathBuf,
    /// Whether this process, which is not the host's root, may make cgroups where its containers go.
    pub delegated: bool,
}

impl Hierarchy {
    /// The cgroup in which containers go that ask for none, below the mount point.
    ///
    /// A cgroup of version 2 with processes in it may have no children with controllers, and this
    /// process's own has at least one.
    pub(super) fn floor(&self, layout: Layout) -> PathBuf {
        match layout {
            Layout::Unified => self.own.parent().map(Path::to_owned).unwrap_or_default(),
            _ => self.own.clone(),
        }
    }

    /// In version 2, whoever moves a process needs `cgroup.procs` of what is above both its places.
    fn is_delegated(&self, layout: Layout) -> bool {
        let floor = self.mount_point.join(self.floor(layout));
        let may_write = |path: &Path| {
            let (here, effective) = (nix::fcntl::AT_FDCWD, AtFlags::AT_EACCESS);
            faccessat(here, path, AccessFlags::W_OK, effective).is_ok()
        };
        let procs = || may_write(&floor.join("cgroup.procs"));
        may_write(&floor) && (self.version == Version::One || procs())
    }
}

/// The hierarchies that this host has mounted; the unified one last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Looks at this host.
    pub fn probe() -> Result<Self> {
        let read = |path: &Path| read(path).map_err(|errno| Error::path_call("read", path, errno));
        let mountinfo = read(Path::new("/proc/self/mountinfo"))?;
        let hierarchies = Self::parse(&mountinfo, &read(Path::new("/proc/self/cgroup"))?);
        let Some(unified) = hierarchies.unified() else { return Ok(hierarchies) };
        let controllers = read(&unified.mount_point.join("cgroup.controllers"))?;
        Ok(hierarchies.with_unified_controllers(&controllers))
    }

    /// What the texts of `/proc/self/mountinfo` and `/proc/self/cgroup` say.
    pub fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let memberships: Vec<Membership<'_>> =
            cgroup.lines().filter_map(Membership::parse).collect();
        let mut mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        // Containers that see the host's cgroups have them mounted once more, below their own
        // root, and those mounts are in this table too.
        mounts.sort_by_cached_key(|mount| !mount.point.starts_with("/sys/fs/cgroup"));
        let mut found: Vec<Option<Hierarchy>> = vec![None; memberships.len()];
        for mount in &mounts {
            let place = memberships.iter().position(|membership| membership.is_of(mount));
            if let Some(place) = place.filter(|place| found[*place].is_none()) {
                found[place] = Some(memberships[place].mounted(mount));
            }
        }
        let mut found: Vec<Hierarchy> = found.into_iter().flatten().collect();
        // The kernel lists the newest first; alphabetical order reads better and is stable.
        found.sort_by_cached_key(|hierarchy| {
            (hierarchy.version == Version::Two, hierarchy.mount_point.clone())
        });
        Hierarchies(found)
    }

    /// Adds what the unified hierarchy's `cgroup.controllers` says.
    pub fn with_unified_controllers(mut self, controllers: &str) -> Self {
        if let Some(unified) = self.0.last_mut().filter(|last| last.version == Version::Two) {
            unified.controllers = controllers.split_whitespace().map(str::to_owned).collect();
        }
        self
    }

    /// Looks which of them are handed to this process, which is not the host's root.
    pub fn with_delegation(mut self) -> Self {
        let layout = self.layout();
        for hierarchy in &mut self.0 {
            hierarchy.delegated = hierarchy.is_delegated(layout);
        }
        self
    }

    #[cfg(test)]
    pub(super) fn delegate(&mut self, controller: &str) {
        for hierarchy in &mut self.0 {
            hierarchy.delegated |= hierarchy.controllers.iter().any(|own| own == controller);
        }
    }

    /// How they are laid out.
    pub fn layout(&self) -> Layout {
        match (self.v1().next().is_some(), self.unified().is_some()) {
            (false, false) => Layout::Absent,
            (true, false) => Layout::Legacy,
            (true, true) => Layout::Hybrid,
            (false, true) => Layout::Unified,
        }
    }

    /// All of them; the unified one last.
    pub fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter()
    }

    /// Those of version 1.
    pub fn v1(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter().filter(|hierarchy| hierarchy.version == Version::One)
    }

    /// The one of version 2.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.0.last().filter(|hierarchy| hierarchy.version == Version::Two)
    }
}

/// A line of `/proc/self/cgroup`: `4:cpu,cpuacct:/user.slice`.
struct Membership<'a> {
    controllers: Vec<&'a str>,
    name: Option<&'a str>,
    path: &'a str,
}

impl<'a> Membership<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (subsystems, path) = (fields.next()?, fields.next()?);
        let subsystems = subsystems.split(',').filter(|subsystem| !subsystem.is_empty());
        let (names, controllers): (Vec<&str>, _) =
            subsystems.partition(|subsystem| subsystem.starts_with("name="));
        let name = names.first().and_then(|name| name.strip_prefix("name="));
        Some(Membership { controllers, name, path: path.trim_end_matches(" (deleted)") })
    }

    fn version(&self) -> Version {
        if self.controllers.is_empty() && self.name.is_none() { Version::Two } else { Version::One }
    }

    fn is_of(&self, mount: &Mount) -> bool {
        let named = || mount.options.iter().find_map(|option| option.strip_prefix("name="));
        match self.version() {
            Version::Two => mount.version == Version::Two,
            Version::One if mount.version == Version::Two => false,
            Version::One => {
                self.controllers.iter().any(|own| mount.options.iter().any(|option| option == own))
                    || self.name.is_some() && self.name == named()
            }
        }
    }

    fn mounted(&self, mount: &Mount) -> Hierarchy {
        Hierarchy {
            version: self.version(),
            mount_point: mount.point.clone(),
            controllers: self.controllers.iter().map(|own| (*own).to_owned()).collect(),
            name: self.name.map(str::to_owned),
            own: below(Path::new(self.path), &mount.root),
            delegated: false,
        }
    }
}

/// The part of `path` that a mount shows whose root is `root`.
///
/// A process outside of what is mounted (`/../x` seen from its cgroup namespace, or another
/// container's subtree) has no place there; the mount's top stands in for it.
fn below(path: &Path, root: &Path) -> PathBuf {
    match path.strip_prefix(root) {
        Ok(rest) if rest.components().all(|part| matches!(part, Component::Normal(_))) => {
            rest.to_owned()
        }
        _ => PathBuf::new(),
    }
}

/// A cgroup mount in `/proc/self/mountinfo`.
struct Mount {
    version: Version,
    root: PathBuf,
    point: PathBuf,
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let version = match filesystem.next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        let options = filesystem.nth(1).unwrap_or_default().split(',').map(str::to_owned);
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (unescaped(mount.next()?), unescaped(mount.next()?));
        Some(Mount { version, root, point, options: options.collect() })
    }
}

/// Undoes the kernel's `\040` for what would break the table: space, tab, newline, backslash.
fn unescaped(field: &str) -> PathBuf {
    let mut rest = field.as_bytes();
    let mut path = Vec::with_capacity(rest.len());
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| *first == b'\\').and_then(octal);
        path.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(path))
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
#[path = "hierarchies_tests.rs"]
pub(super) mod tests;
