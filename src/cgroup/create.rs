//! Making a planned cgroup: directories, then limits; joining is the launcher's to time.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, Uid, chown, mkdir};

use super::files::{is_gone, read, write_to};
use super::group::{Cgroup, Directory};
use super::hierarchies::Version;
use super::plan::{CgroupPlan, Group};
use super::program;
use super::systemd::{Property, Unit};
use super::write::set;
use crate::error::{Error, Kind, Result};
use crate::sys::xattr;

/// Set on a parent that was made for a container: whoever deletes its last container removes it.
///
/// The mark is the cgroup's own, since its maker's state may be gone by then.
pub(super) const MARK: &std::ffi::CStr = c"user.rscontainer.made";

/// What is handed over where the kernel does not say.
const DELEGATED: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads";

/// A parent may be removed by the deletion of its last container, right before we use it.
const ATTEMPTS: usize = 100;

impl CgroupPlan {
    /// Makes the directories and sets the limits; after a failure nothing of it is left.
    pub fn create(&self) -> Result<Cgroup> {
        let cgroup = self.make()?;
        match self.limit(&cgroup) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.unmake();
                Err(error)
            }
        }
    }

    /// The cgroup as it will be: put on record before it is made, so that it can be taken away
    /// after a maker that died in between.
    pub fn intended(&self) -> Cgroup {
        let directories = self.groups.iter().map(Group::intended).collect();
        Cgroup { directories, unit: self.unit() }
    }

    /// Makes the directories; after a failure nothing of it is left.
    ///
    /// Nothing may run before [`limit`](Self::limit): it would do so without limits, and some of
    /// them (real-time, version 1) do not let it in later.
    pub fn make(&self) -> Result<Cgroup> {
        let mut cgroup = self.begin()?;
        match self.finish(&mut cgroup) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.unmake();
                Err(error)
            }
        }
    }

    /// Makes the directory of the unified hierarchy, if there is one, to be born into; the others
    /// can be made while who was born there is busy. After a failure nothing of it is left.
    pub fn begin(&self) -> Result<Cgroup> {
        let mut cgroup = Cgroup::default();
        if self.is_systemds() {
            return Ok(cgroup);
        }
        let unified = self.groups.iter().filter(|group| group.hierarchy.version == Version::Two);
        match unified.map(Group::make_unused).try_for_each(|made| {
            cgroup.directories.push(made?);
            Ok(())
        }) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.unmake();
                Err(error)
            }
        }
    }

    /// Makes the directories that [`begin`](Self::begin) did not; those of version 1 come first.
    ///
    /// What was made until a failure is on the list, for [`Cgroup::take_back`].
    pub fn finish(&self, cgroup: &mut Cgroup) -> Result<()> {
        if self.is_systemds() {
            return Ok(());
        }
        let first = self.groups.iter().filter(|group| group.hierarchy.version == Version::One);
        for (at, group) in first.enumerate() {
            cgroup.directories.insert(at, group.make_unused()?);
        }
        if cgroup.directories.iter().any(|directory| !directory.made) && cgroup.frozen()? {
            return Err(Error::new(Kind::State, "the cgroup exists already and is frozen")
                .asked_by("$.linux.cgroupsPath")
                .hint("thaw it or give the container another"));
        }
        Ok(())
    }

    /// Has systemd make the cgroups around a process, and sets the limits, those that systemd does
    /// not know of too.
    ///
    /// What was made until a failure is on the list, for [`Cgroup::take_back`].
    pub fn enter(&self, cgroup: &mut Cgroup, pid: Pid) -> Result<()> {
        let Some(order) = &self.order else { return Ok(()) };
        let mut properties = order.properties(self.is_unified(), &self.writes());
        properties.push(Property::processes(&[pid]));
        order.unit.start(&properties)?;
        cgroup.unit = self.unit();
        for group in &self.groups {
            let mut directory = group.make()?;
            // Nobody else's, with all that is in it.
            directory.made = true;
            cgroup.directories.push(directory);
        }
        self.limit(cgroup)
    }

    fn unit(&self) -> Option<Unit> {
        self.order.as_ref().map(|order| order.unit.clone())
    }

    /// Sets the limits in directories that [`make`](Self::make) made.
    pub fn limit(&self, cgroup: &Cgroup) -> Result<()> {
        for (group, directory) in self.groups.iter().zip(&cgroup.directories) {
            set(&group.writes, directory)?;
            if let Some(policy) = &group.devices {
                program::attach(&policy.program(), directory)
                    .map_err(|error| error.asked_by("$.linux.resources.devices"))?;
            }
            group.owner.map_or(Ok(()), |owner| directory.hand_over(owner))?;
        }
        Ok(())
    }
}

impl Directory {
    /// Gives it to a user, with the files by which cgroups are made in it and filled, and none of
    /// those that limit it (config-linux.md#cgroup-ownership).
    pub(super) fn hand_over(&self, owner: u32) -> Result<()> {
        let listed = read(Path::new("/sys/kernel/cgroup/delegate"));
        let listed = listed.unwrap_or_else(|_| DELEGATED.to_owned());
        // The folder itself by the empty name.
        for name in listed.lines().chain([""]) {
            let path = self.path.join(name);
            match chown(&path, Some(Uid::from_raw(owner)), None) {
                // Not every cgroup has them all.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => {
                    return Err(Error::path_call("chown", path, errno)
                        .context("hand the cgroup to the container's user"));
                }
            }
        }
        Ok(())
    }
}

impl Cgroup {
    /// Takes back a making that failed: what was there before stays.
    fn unmake(&self) {
        for directory in &self.directories {
            directory.unmake();
        }
    }

    /// Takes back a making, after a failure when processes may have been in it; what was there
    /// before stays.
    pub fn take_back(mut self) -> Result<()> {
        self.directories.retain(|directory| directory.made);
        self.delete()
    }
}

impl Group {
    /// The directory as far as it is known before it is made.
    fn intended(&self) -> Directory {
        let (mount_point, path) = (&self.hierarchy.mount_point, self.directory());
        let floor = mount_point.join(&self.floor);
        let own = |parent: &&Path| **parent != floor && *parent != mount_point;
        Directory {
            version: self.hierarchy.version,
            controllers: self.hierarchy.controllers.clone(),
            made: false,
            parents: path.ancestors().skip(1).take_while(own).map(Path::to_owned).collect(),
            handle: None,
            path,
        }
    }

    /// A directory that was there already must be empty, or two containers would share their
    /// limits and their end.
    fn make_unused(&self) -> Result<Directory> {
        let directory = self.make()?;
        let pids = if directory.made { Vec::new() } else { directory.pids()? };
        if pids.is_empty() {
            return Ok(directory);
        }
        let path = directory.path.display();
        let message = format!("the cgroup {path} has {} processes already", pids.len());
        Err(Error::new(Kind::State, message)
            .asked_by("$.linux.cgroupsPath")
            .hint("give the container a cgroup of its own"))
    }

    fn make(&self) -> Result<Directory> {
        let mut directory = self.intended();
        match self.make_ready(&mut directory) {
            Ok(()) => Ok(directory),
            Err(error) => {
                Cgroup { directories: vec![directory], unit: None }.unmake();
                Err(error.asked_by(self.asked_by()))
            }
        }
    }

    /// What is above is seen to last, for once the directory is there nobody removes its parents.
    fn make_ready(&self, directory: &mut Directory) -> Result<()> {
        directory.made = self.make_leaf(&directory.path)?;
        // For the one file that lets processes in, the path is as good.
        if !self.writes.is_empty() || self.devices.is_some() {
            let handle = Directory::open(&directory.path);
            directory.handle =
                Some(handle.map_err(|errno| Error::path_call("open", &directory.path, errno))?);
        }
        match directory.version {
            Version::One => self.inherit_cpuset(directory),
            Version::Two => self.delegate(),
        }
    }

    fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn make_leaf(&self, path: &Path) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            match mkdir(path, Mode::from_bits_truncate(0o755)) {
                Ok(()) => return Ok(true),
                Err(Errno::EEXIST) => return Ok(false),
                Err(errno) if is_gone(errno) => self.make_parents(self.parent())?,
                Err(errno) => return Err(not_made(path, errno)),
            }
        }
        Err(not_made(path, Errno::ENOENT))
    }

    fn make_parents(&self, parent: &Path) -> Result<()> {
        let mut path = self.hierarchy.mount_point.clone();
        for name in parent.components() {
            path.push(name);
            match mkdir(&path, Mode::from_bits_truncate(0o755)) {
                // Without the mark the parent stays when its containers are gone, no worse.
                Ok(()) => drop(xattr::mark(&path, MARK)),
                Err(Errno::EEXIST) => {}
                Err(errno) if is_gone(errno) => return Ok(()),
                Err(errno) => return Err(not_made(&path, errno)),
            }
        }
        Ok(())
    }

    /// A new cpuset of version 1 is empty and takes no process until it is filled in.
    fn inherit_cpuset(&self, directory: &Directory) -> Result<()> {
        if !directory.has("cpuset") {
            return Ok(());
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !directory.made {
                fill_cpuset(&self.hierarchy.mount_point, &self.path, file)?;
                continue;
            }
            let value = fill_cpuset(&self.hierarchy.mount_point, self.parent(), file)?;
            if !self.sets(file) {
                write_cpuset(&directory.path.join(file), &value)?;
            }
        }
        Ok(())
    }

    /// Has every cgroup on the way down hand its controllers to its children.
    fn delegate(&self) -> Result<()> {
        let mount_point = &self.hierarchy.mount_point;
        let parent = mount_point.join(self.parent());
        if self.hierarchy.controllers.is_empty() {
            return Ok(());
        }
        // A parent that hands all of them on was given them by its own.
        if self.missing_in(&parent).is_empty() {
            return Ok(());
        }
        let mut path = mount_point.clone();
        self.hand_on(&path)?;
        for name in self.parent().components() {
            path.push(name);
            self.hand_on(&path)?;
        }
        Ok(())
    }

    fn missing_in(&self, path: &Path) -> Vec<&str> {
        let enabled = read(&path.join("cgroup.subtree_control")).unwrap_or_default();
        let controllers = self.hierarchy.controllers.iter().map(String::as_str);
        controllers.filter(|name| !enabled.split_whitespace().any(|it| it == *name)).collect()
    }

    /// All at once; if one is refused, each alone, for only those that a limit needs must succeed.
    fn hand_on(&self, path: &Path) -> Result<()> {
        let missing = self.missing_in(path);
        let enable = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
            write_to(&path.join("cgroup.subtree_control"), &names.join(" "))
        };
        if missing.is_empty() || enable(&missing).is_ok() {
            return Ok(());
        }
        for name in missing {
            let Err(errno) = enable(&[name]) else { continue };
            if let Some((_, property)) = self.needed.iter().find(|(needed, _)| needed == name) {
                return Err(not_handed_on(path, name, errno).asked_by(property));
            }
        }
        Ok(())
    }
}

fn not_made(path: &Path, errno: Errno) -> Error {
    let error = Error::path_call("mkdir", path, errno);
    match errno {
        Errno::EACCES | Errno::EPERM => {
            error.hint("run as root, or have this cgroup delegated to the user")
        }
        Errno::EROFS => error.hint("mount the cgroup hierarchies writable"),
        Errno::EAGAIN => error.hint("raise cgroup.max.descendants or cgroup.max.depth above it"),
        _ => error,
    }
}

fn not_handed_on(path: &Path, controller: &str, errno: Errno) -> Error {
    let file = path.join("cgroup.subtree_control");
    let error = Error::path_call("write", file, errno)
        .context(format_args!("enable the {controller} controller below {}", path.display()));
    match errno {
        Errno::EBUSY => error.hint(format!(
            "move the processes out of {}: one with children cannot have both",
            path.display()
        )),
        Errno::ENOENT => error.hint("the cgroup above does not hand this controller on"),
        _ => error,
    }
}

/// Fills an empty cpuset, after its parents, from its parent; the top one is never empty.
fn fill_cpuset(mount_point: &Path, path: &Path, file: &str) -> Result<String> {
    let full = mount_point.join(path).join(file);
    let value = read(&full).map_err(|errno| Error::path_call("read", &full, errno))?;
    let parent = path.parent().filter(|_| value.trim().is_empty());
    let Some(parent) = parent else { return Ok(value) };
    let value = fill_cpuset(mount_point, parent, file)?;
    write_cpuset(&full, &value)?;
    Ok(value)
}

fn write_cpuset(file: &Path, value: &str) -> Result<()> {
    write_to(file, value.trim()).map_err(|errno| {
        let error = Error::path_call("write", file, errno);
        error.context(format_args!("fill in an empty cpuset with {:?}", value.trim()))
    })
}
