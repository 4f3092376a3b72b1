//! Where a container goes and what is written there, decided without a system call.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::devices::Policy;
use super::hierarchies::{Hierarchies, Hierarchy, Layout, Version};
use super::resources;
use super::systemd::{self, Manager, Order, Unit};
use crate::error::{Error, Result};

const SECTION: &str = "config-linux.md#cgroups-path";

/// What to do where the kernel has no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Absent {
    /// The limit cannot be set, and that is an error.
    Fails,
    /// What is asked for is what holds without the file.
    Skipped,
    /// The same limit by another name.
    Instead { file: String, value: String },
}

/// One write into a file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) file: String,
    pub(super) value: String,
    /// The JSON path that asked for it.
    pub(super) property: String,
    pub(super) absent: Absent,
    /// Checked by the kernel against a file that a later write changes: on failure, to be tried
    /// again after those.
    pub(super) again: bool,
    /// The file with what is in use, below which a limit is refused.
    pub(super) not_below: Option<&'static str>,
}

impl Write {
    pub(super) fn new(
        file: impl Into<String>,
        value: impl ToString,
        property: impl Into<String>,
    ) -> Self {
        let (file, property) = (file.into(), property.into());
        let value = value.to_string();
        Write { file, value, property, absent: Absent::Fails, again: false, not_below: None }
    }

    pub(super) fn not_below(mut self, usage: Option<&'static str>) -> Self {
        self.not_below = usage;
        self
    }

    pub(super) fn again(mut self) -> Self {
        self.again = true;
        self
    }

    pub(super) fn if_present(mut self) -> Self {
        self.absent = Absent::Skipped;
        self
    }

    pub(super) fn or_else(mut self, file: impl Into<String>, value: impl ToString) -> Self {
        self.absent = Absent::Instead { file: file.into(), value: value.to_string() };
        self
    }
}

/// The container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) hierarchy: Hierarchy,
    /// The part of its path that is there before any container is.
    pub(super) floor: PathBuf,
    /// Its path below the mount point.
    pub(super) path: PathBuf,
    pub(super) writes: Vec<Write>,
    /// Version 2: controllers that a write needs, with the JSON path that asked.
    pub(super) needed: Vec<(String, String)>,
    /// Version 2: the devices that may be used, kept to by a program.
    pub(super) devices: Option<Policy>,
    /// Version 2: the user to whom it is handed over.
    pub(super) owner: Option<u32>,
}

impl Group {
    fn new(hierarchy: &Hierarchy, layout: Layout, place: &Place) -> Self {
        let floor = if place.absolute { PathBuf::new() } else { hierarchy.floor(layout) };
        Self::at(hierarchy, floor.join(&place.name), floor)
    }

    /// Where this process is, and a container that gets no cgroup of its own stays.
    fn own(hierarchy: &Hierarchy) -> Self {
        Self::at(hierarchy, hierarchy.own.clone(), hierarchy.own.clone())
    }

    pub(super) fn at(hierarchy: &Hierarchy, path: PathBuf, floor: PathBuf) -> Self {
        Group {
            path,
            floor,
            hierarchy: hierarchy.clone(),
            writes: Vec::new(),
            needed: Vec::new(),
            devices: None,
            owner: None,
        }
    }

    /// The line of the config that has the directory made.
    pub(super) fn asked_by(&self) -> &str {
        self.writes.first().map_or("$.linux.cgroupsPath", |write| &write.property)
    }

    /// The directory on the host.
    pub(super) fn directory(&self) -> PathBuf {
        self.hierarchy.mount_point.join(&self.path)
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.hierarchy.controllers.iter().any(|own| own == controller)
    }

    pub(super) fn sets(&self, file: &str) -> bool {
        self.writes.iter().any(|write| write.file == file)
    }

    fn lines(&self, lines: &mut Vec<String>) {
        let directory = self.directory();
        lines.push(format!("make cgroup {directory:?}"));
        for write in &self.writes {
            lines.push(format!("write {:?} to {:?}", write.value, directory.join(&write.file)));
        }
        if let Some(policy) = &self.devices {
            lines.push(format!("attach a device program to {directory:?}: {policy}"));
        }
        if let Some(owner) = self.owner {
            lines.push(format!("give {directory:?} to user {owner}"));
        }
    }
}

/// Where a container goes and what is written there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CgroupPlan {
    /// The unit whose cgroups these are, where systemd makes them.
    pub(super) order: Option<Order>,
    pub(super) groups: Vec<Group>,
    /// Hierarchies of which the container gets nothing of its own: shown to it, not touched.
    pub(super) left_alone: Vec<Group>,
    pub(super) warnings: Vec<String>,
}

impl CgroupPlan {
    /// What the plan does, a directory, write or device program a line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines
            .extend(self.order.as_ref().map(|order| order.line(self.is_unified(), &self.writes())));
        self.groups.iter().for_each(|group| group.lines(&mut lines));
        lines
    }

    /// What the config asks for and the specification says to ignore, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All of them, of every hierarchy.
    pub(super) fn writes(&self) -> Vec<&Write> {
        self.groups.iter().flat_map(|group| &group.writes).collect()
    }

    /// Whether all of it is of version 2.
    pub fn is_unified(&self) -> bool {
        self.groups.iter().all(|group| group.hierarchy.version == Version::Two)
    }

    /// Whether systemd makes the cgroups, around a process that is there before.
    pub fn is_systemds(&self) -> bool {
        self.order.is_some()
    }

    /// Whether nothing is made: the container stays in the runtime's own cgroups.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The directory in the unified hierarchy.
    pub fn unified_dir(&self) -> Option<PathBuf> {
        let last = self.groups.last()?;
        (last.hierarchy.version == Version::Two).then(|| last.directory())
    }
}

impl fmt::Display for CgroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// What is asked of a container's cgroups, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `linux.cgroupsPath`.
    pub path: Option<&'a Path>,
    /// The container's id.
    pub id: &'a str,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// The host's user whom it is to belong to, where it may be handed on.
    pub owner: Option<u32>,
    /// Whether the devices that every container may use are allowed after the config's rules.
    pub devices_default: bool,
    /// Who is not the host's root may not restrict devices, and makes no cgroup where that is not
    /// delegated to it, unless asked to.
    pub rootless: bool,
}

/// Decides where a container goes and what is written there.
pub fn plan(hierarchies: &Hierarchies, asked: Asked<'_>) -> Result<CgroupPlan> {
    let layout = hierarchies.layout();
    let place = Place::of(hierarchies, &asked)?;
    let mut groups: Vec<Group> =
        hierarchies.iter().map(|hierarchy| Group::new(hierarchy, layout, &place)).collect();
    let mut warnings = Vec::new();
    if let Some(resources) = asked.resources {
        let devices = (!asked.rootless).then_some(asked.devices_default);
        resources::distribute(resources, devices, &mut groups, &mut warnings)?;
    }
    // Who is not root has what it has been given; version 1 is not safe to hand on.
    if layout == Layout::Unified && !asked.rootless {
        groups.iter_mut().for_each(|group| group.owner = asked.owner);
    }
    let mut plan = CgroupPlan { warnings, ..CgroupPlan::default() };
    if let Some(unit) = place.unit {
        // A program of version 2 is the container's own, whatever systemd does about devices.
        let rules = asked.resources.and_then(|resources| resources.devices().as_deref());
        let rules = rules.filter(|_| layout != Layout::Unified);
        let devices = rules.map(|rules| Policy::of(rules, asked.devices_default)).transpose()?;
        plan.order = Some(Order { unit, id: asked.id.to_owned(), devices });
    } else if asked.rootless && asked.path.is_none() {
        // A limit is asked for: that it cannot be set is for the kernel to say.
        let (made, others): (Vec<Group>, Vec<Group>) = groups
            .into_iter()
            .partition(|group| group.hierarchy.delegated || !group.writes.is_empty());
        groups = made;
        plan.left_alone = others.iter().map(|group| Group::own(&group.hierarchy)).collect();
    }
    Ok(CgroupPlan { groups, ..plan })
}

struct Place {
    /// From the mount point, or from where containers go that ask for nothing.
    absolute: bool,
    name: PathBuf,
    unit: Option<Unit>,
}

impl Place {
    fn of(hierarchies: &Hierarchies, asked: &Asked<'_>) -> Result<Self> {
        let path = asked.path.unwrap_or(Path::new(asked.id));
        if is_systemd_style(path) {
            return Self::in_unit(hierarchies, &path.to_string_lossy(), asked.rootless);
        }
        let name = clean(path);
        if name.as_os_str().is_empty() {
            return Err(refused(path, "it names no cgroup of the container's own"));
        }
        let absolute = asked.path.is_some_and(Path::is_absolute);
        Ok(Place { absolute, name, unit: None })
    }

    fn in_unit(hierarchies: &Hierarchies, words: &str, rootless: bool) -> Result<Self> {
        let manager = if rootless { Manager::User } else { Manager::System };
        let unit = Unit::parse(words, manager)?;
        let above = match manager {
            Manager::System => PathBuf::new(),
            Manager::User => {
                if hierarchies.layout() != Layout::Unified {
                    let why = "with cgroups of version 1 a user's systemd cannot make any";
                    return Err(refused(Path::new(words), why));
                }
                let own = hierarchies.unified().map_or(Path::new(""), |unified| &unified.own);
                systemd::of_user_manager(own).ok_or_else(|| {
                    refused(Path::new(words), "this process is not below the user's own systemd")
                        .hint("run it there: systemd-run --user --scope COMMAND")
                })?
            }
        };
        Ok(Place { absolute: true, name: above.join(unit.path()), unit: Some(unit) })
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::spec("$.linux.cgroupsPath", Some(format!("{:?}", path.display())), SECTION, why)
}

/// Whether a path has the form `slice:prefix:name`, of a unit that systemd makes.
pub fn is_systemd_style(path: &Path) -> bool {
    let text = path.to_string_lossy();
    !text.contains('/') && text.matches(':').count() == 2
}

/// Resolves `..` by name, never above where it starts; the result is relative.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            _ => {}
        }
    }
    cleaned
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
