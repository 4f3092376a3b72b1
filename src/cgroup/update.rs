//! Changing the limits of a container that runs: all that is asked for, or nothing.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use super::devices::{self, Change};
use super::group::{Cgroup, Directory};
use super::hierarchies::Hierarchy;
use super::plan::{Group, Write};
use super::program::{self, Attached};
use super::resources;
use super::systemd::{self, Unit};
use super::write::set;
use crate::error::{Error, Kind, Result};

/// Files of which systemd keeps hundredths of a processor.
const ROUNDED: [&str; 3] = ["cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"];

/// What is written where, decided by what creation decides by.
#[derive(Debug)]
pub struct Update<'a> {
    cgroup: &'a Cgroup,
    groups: Vec<Group>,
    devices: Option<(usize, Change)>,
    /// What has no effect, a sentence each.
    pub warnings: Vec<String>,
}

/// How to take back what was written.
#[derive(Debug, Default)]
pub struct Undo<'a> {
    writes: Vec<(&'a Directory, Vec<Write>)>,
    devices: Option<Exchanged<'a>>,
    /// The unit that has other properties now.
    told: Option<&'a Unit>,
}

#[derive(Debug)]
enum Exchanged<'a> {
    Rules { cgroup: &'a Cgroup, directory: &'a Directory, back: Vec<Write>, frozen: bool },
    Program { directory: &'a Directory, before: Attached },
}

impl Cgroup {
    /// Decides what is written for a change; what it does not name stays as it is.
    ///
    /// Rules for devices are changed from those that hold, `rules`.
    ///
    /// # Errors
    /// The container has no cgroup that could keep such a limit, or version 2 has no such limit.
    pub fn update(
        &self,
        change: &LinuxResources,
        rules: &[LinuxDeviceCgroup],
    ) -> Result<Update<'_>> {
        if self.directories.is_empty() {
            let message = "the container has no cgroup of its own whose limits could be changed";
            return Err(Error::new(Kind::Other, message)
                .hint("have one delegated to this user and name it in $.linux.cgroupsPath"));
        }
        let mut groups: Vec<Group> = self.directories.iter().map(Directory::as_group).collect();
        let mut warnings = Vec::new();
        resources::distribute(change, None, &mut groups, &mut warnings).map_err(|error| {
            match error.kind() {
                // Of the host's hierarchies it has those that were delegated to its maker.
                Kind::Other => error.context("the container has no cgroup for it"),
                _ => error,
            }
        })?;
        let devices = change.devices().as_deref();
        let devices = devices.map(|after| devices::change(rules, after, &groups)).transpose()?;
        Ok(Update { cgroup: self, groups, devices, warnings })
    }
}

impl Directory {
    /// As a plan sees it: a hierarchy with itself at the top.
    fn as_group(&self) -> Group {
        let hierarchy = Hierarchy {
            version: self.version,
            mount_point: self.path.clone(),
            controllers: self.controllers.clone(),
            name: None,
            own: PathBuf::new(),
            delegated: false,
        };
        Group::at(&hierarchy, PathBuf::new(), PathBuf::new())
    }
}

impl<'a> Update<'a> {
    /// Writes all of it.
    ///
    /// # Errors
    /// The first that the kernel refused; the others are taken back, and the error says so.
    pub fn apply(&self) -> Result<Undo<'a>> {
        let mut undo = Undo::default();
        match self.carry_out(&mut undo).and_then(|()| self.tell_systemd(&mut undo)) {
            Ok(()) => Ok(undo),
            Err(error) => Err(undo.explained(error)),
        }
    }

    /// Or it would write the former ones again, some time. It writes these at once, a quota as it
    /// can keep it: what was asked for goes after.
    fn tell_systemd(&self, undo: &mut Undo<'a>) -> Result<()> {
        let Some(unit) = &self.cgroup.unit else { return Ok(()) };
        let writes = || self.groups.iter().flat_map(|group| &group.writes);
        undo.told = Some(unit);
        unit.set(&systemd::of_limits(writes()))?;
        self.groups.iter().zip(self.cgroup.directories()).try_for_each(|(group, directory)| {
            let rounded = |write: &&Write| ROUNDED.contains(&write.file.as_str());
            let exact: Vec<Write> = group.writes.iter().filter(rounded).cloned().collect();
            set(&exact, directory)
        })
    }

    fn carry_out(&self, undo: &mut Undo<'a>) -> Result<()> {
        for (group, directory) in self.groups.iter().zip(self.cgroup.directories()) {
            let inverse = |write: &Write| write.inverse(directory);
            let before = group.writes.iter().rev().filter_map(inverse).collect();
            undo.writes.push((directory, before));
            set(&group.writes, directory)?;
        }
        let Some((at, change)) = &self.devices else { return Ok(()) };
        let Some(directory) = self.cgroup.directories.get(*at) else { return Ok(()) };
        match change {
            Change::Rules { forth, back, at_once } => {
                let (cgroup, back, frozen) = (self.cgroup, back.clone(), *at_once);
                // Some of them may be written when one is refused.
                undo.devices = Some(Exchanged::Rules { cgroup, directory, back, frozen });
                with_nobody_looking(cgroup, frozen, || set(forth, directory))
            }
            Change::Program(program) => {
                let before = program::exchange(program.as_deref(), directory)
                    .map_err(|error| error.asked_by("$.linux.resources.devices"))?;
                undo.devices = Some(Exchanged::Program { directory, before });
                Ok(())
            }
        }
    }
}

/// Freezes the container for writes between which it would have other devices than before or after.
fn with_nobody_looking(
    cgroup: &Cgroup,
    freeze: bool,
    write: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if !freeze || cgroup.frozen()? {
        return write();
    }
    cgroup.freeze()?;
    let written = write();
    let thawed = cgroup.thaw();
    written.and(thawed)
}

impl Undo<'_> {
    /// Takes back what was written, for an error that came of it or after it, and adds to that one
    /// what came of this.
    pub fn explained(self, error: Error) -> Error {
        let mut left = Vec::new();
        if let Some(Err(error)) = self.devices.map(Exchanged::undo) {
            left.push(error.to_string());
        }
        if let Some(unit) = self.told {
            let former = systemd::of_limits(self.writes.iter().flat_map(|(_, writes)| writes));
            left.extend(unit.set(&former).err().map(|error| error.to_string()));
        }
        for (directory, writes) in self.writes.into_iter().rev() {
            // One that cannot be taken back keeps none of the others.
            left.extend(set(&writes, directory).err().map(|_| directory.stuck(&writes)));
        }
        match left.join("; ") {
            left if left.is_empty() => error.context("the limits stay as they were"),
            left => error.context(format_args!("the limits are changed in part ({left})")),
        }
    }
}

impl Exchanged<'_> {
    fn undo(self) -> Result<()> {
        match self {
            Exchanged::Rules { cgroup, directory, back, frozen } => {
                with_nobody_looking(cgroup, frozen, || set(&back, directory))
            }
            Exchanged::Program { directory, before } => before.restore(directory),
        }
    }
}

impl Directory {
    /// What cannot be taken back of some writes, tried one by one.
    fn stuck(&self, writes: &[Write]) -> String {
        let failed = |write: &&Write| set(std::slice::from_ref(*write), self).is_err();
        let names: Vec<&str> =
            writes.iter().filter(failed).map(|write| write.file.as_str()).collect();
        format!("not taken back: {}", names.join(", "))
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
