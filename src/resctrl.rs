//! `linux.intelRdt`: shares of cache and memory bandwidth, through the resctrl file system.
//!
//! A folder in it is a class of service, a folder in that one's `mon_groups` a place to measure.
//! A process is in the class whose `tasks` its number was written to, and so are its children.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{FsType, statfs};
use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const PROPERTY: &str = "$.linux.intelRdt";
const USUAL_PLACE: &str = "/sys/fs/resctrl";

/// Where it is mounted.
///
/// The kernel makes the usual place if the processor can do any of it; only then is the table of
/// mounts worth a look.
pub fn mount_point() -> Option<PathBuf> {
    const RDTGROUP_SUPER_MAGIC: FsType = FsType(0x0765_5821);
    if statfs(USUAL_PLACE).ok()?.filesystem_type() == RDTGROUP_SUPER_MAGIC {
        return Some(USUAL_PLACE.into());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "resctrl").then(|| place.into())
    })
}

/// What the config asks for, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResctrlPlan {
    mount_point: PathBuf,
    group: PathBuf,
    /// Whether the config names the class, which then is others' too.
    named: bool,
    /// Lines that an existing class of a name must have already.
    compared: String,
    /// All lines to be written.
    schemata: String,
    monitor: Option<PathBuf>,
}

/// Decides where a container goes.
///
/// # Errors
/// The file system is not mounted.
pub fn plan(
    wanted: Option<&LinuxIntelRdt>,
    mount_point: Option<&Path>,
    id: &str,
) -> Result<Option<ResctrlPlan>> {
    let Some(wanted) = wanted else { return Ok(None) };
    let Some(mount_point) = mount_point else {
        let message = "no resctrl file system is mounted on this host";
        return Err(Error::spec(PROPERTY, None, "config-linux.md#intelrdt", message).hint(
            "mount -t resctrl resctrl /sys/fs/resctrl; that needs a processor that shares out its \
             cache (Intel RDT, AMD QoS), and a kernel built for it",
        ));
    };
    let name = wanted.clos_id().as_deref().filter(|name| !name.is_empty());
    let group = match name {
        Some("/") => mount_point.to_owned(),
        name => mount_point.join(name.unwrap_or(id)),
    };
    // The specification's order.
    let compared = [wanted.l3_cache_schema(), wanted.mem_bw_schema()];
    let compared = lines(compared.into_iter().flatten());
    let schemata = format!("{compared}{}", lines(wanted.schemata().iter().flatten()));
    let monitored = *wanted.enable_monitoring() == Some(true);
    let monitor = monitored.then(|| group.join("mon_groups").join(id));
    let (mount_point, named) = (mount_point.to_owned(), name.is_some());
    Ok(Some(ResctrlPlan { mount_point, group, named, compared, schemata, monitor }))
}

fn lines<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    texts.filter(|text| !text.is_empty()).map(|text| format!("{text}\n")).collect()
}

/// Where a container is, and what goes with it, as the state on disk remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resctrl {
    group: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitor: Option<PathBuf>,
    /// What was made for the container and is removed with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    remove: Vec<PathBuf>,
}

impl ResctrlPlan {
    /// The plan in words, one line each.
    pub fn lines(&self) -> Vec<String> {
        let verb = if self.must_exist() { "use" } else { "make" };
        let mut lines = vec![format!("{verb} resctrl group {:?}", self.group)];
        if !self.schemata.is_empty() {
            lines.push(format!("write {:?} to {:?}", self.schemata, self.group.join("schemata")));
        }
        lines.extend(self.monitor.iter().map(|path| format!("make monitoring group {path:?}")));
        lines
    }

    /// A class that is named and not described is somebody else's work.
    fn must_exist(&self) -> bool {
        self.named && self.schemata.is_empty()
    }

    /// What is going to be there, to be put on record first: what is found now is not ours.
    ///
    /// # Errors
    /// The class does not exist that the config names, or the monitoring group does.
    pub fn intended(&self) -> Result<Resctrl> {
        if self.must_exist() && !self.group.is_dir() {
            return Err(Error::path_call("stat", &self.group, Errno::ENOENT)
                .asked_by(format!("{PROPERTY}.closID"))
                .hint("make it beforehand, or give a schema by which it can be made"));
        }
        let mut remove = Vec::new();
        if !self.named && !self.group.exists() {
            // Its monitoring groups go with it.
            remove.push(self.group.clone());
        } else if let Some(monitor) = &self.monitor {
            if monitor.exists() {
                return Err(self
                    .failed("mkdir", monitor, Errno::EEXIST)
                    .hint("it is another container's, or was left by one: remove it"));
            }
            remove.push(monitor.clone());
        }
        Ok(Resctrl { group: self.group.clone(), monitor: self.monitor.clone(), remove })
    }

    /// Makes what is missing and puts a process there; after a failure nothing of it is left.
    ///
    /// # Errors
    /// What the kernel does not accept, in its own words too.
    pub fn make(&self, intended: Resctrl, pid: i32) -> Result<Resctrl> {
        let mut made = Vec::new();
        let done = self.fill(&intended, &mut made).and_then(|()| intended.join(pid));
        done.map_err(|error| {
            made.iter().rev().for_each(|path| drop(fs::remove_dir(path)));
            explained(&self.mount_point, error)
        })?;
        Ok(intended)
    }

    fn fill(&self, intended: &Resctrl, made: &mut Vec<PathBuf>) -> Result<()> {
        match fs::create_dir(&self.group) {
            Ok(()) => made.push(self.group.clone()),
            Err(error)
                if error.kind() == ErrorKind::AlreadyExists
                    && !intended.remove.contains(&self.group) =>
            {
                self.compare()?;
            }
            Err(error) => return Err(self.io("mkdir", &self.group, &error)),
        }
        if !self.schemata.is_empty() {
            write(&self.group.join("schemata"), &self.schemata)?;
        }
        if let Some(monitor) = &self.monitor {
            fs::create_dir(monitor).map_err(|error| self.io("mkdir", monitor, &error))?;
            made.push(monitor.clone());
        }
        Ok(())
    }

    /// Whoever made the class may have others in it: what it is must be what is asked for.
    fn compare(&self) -> Result<()> {
        if !self.named || self.compared.is_empty() {
            return Ok(());
        }
        let path = self.group.join("schemata");
        let found = fs::read_to_string(&path).map_err(|error| self.io("read", &path, &error))?;
        let (found, wanted) = (shares(&found), shares(&self.compared));
        match wanted.iter().find(|(share, value)| found.get(*share) != Some(value)) {
            None => Ok(()),
            Some(((resource, domain), value)) => {
                let has = found.get(&(resource.clone(), domain.clone()));
                let has = has.map_or("no such share", |value| value.as_str());
                let message = format!(
                    "class {:?} exists and has {resource}:{domain}={has}, not {value}",
                    self.group
                );
                Err(Error::spec(PROPERTY, None, "config-linux.md#intelrdt", message)
                    .hint("name another closID, or leave the schemas out to take it as it is"))
            }
        }
    }

    fn io(&self, call: &str, path: &Path, error: &std::io::Error) -> Error {
        self.failed(call, path, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    fn failed(&self, call: &str, path: &Path, errno: Errno) -> Error {
        let error = Error::path_call(call, path, errno).asked_by(PROPERTY);
        match errno {
            Errno::ENOSPC => error.hint("the processor has no more groups: remove one"),
            _ => error,
        }
    }
}

impl Resctrl {
    /// Puts a process there, the monitoring group after the class, of which it is a part.
    ///
    /// # Errors
    /// write(2)'s.
    pub fn join(&self, pid: i32) -> Result<()> {
        [Some(&self.group), self.monitor.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|group| write(&group.join("tasks"), &pid.to_string()))
    }

    /// Gives the class other shares; lines that are not given stay.
    ///
    /// # Errors
    /// What the kernel does not accept, in its own words too.
    pub fn update(&self, schemata: &str) -> Result<()> {
        write(&self.group.join("schemata"), schemata).map_err(|error| match mount_point() {
            Some(mount_point) => explained(&mount_point, error),
            None => error,
        })
    }

    /// Removes what was made for the container; what is gone is success.
    ///
    /// # Errors
    /// rmdir(2)'s.
    pub fn delete(&self) -> Result<()> {
        self.remove.iter().try_for_each(|path| match fs::remove_dir(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("rmdir", path, &error))
            }
            _ => Ok(()),
        })
    }
}

/// With what the kernel noted of the last command.
fn explained(mount_point: &Path, error: Error) -> Error {
    let status = fs::read_to_string(mount_point.join("info/last_cmd_status"));
    match status.as_deref().map(str::trim) {
        Ok(status) if error.system_call().is_some() && !matches!(status, "" | "ok") => {
            error.context(status.to_lowercase())
        }
        _ => error,
    }
}

/// In one call, and never a new file: where the kernel did not make one, there is none.
fn write(path: &Path, value: &str) -> Result<()> {
    use std::io::Write;
    let file = fs::OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write(value.as_bytes()).map(drop))
        .map_err(|error| Error::io("write", path, &error).asked_by(PROPERTY))
}

/// The value of each share, `L3:0=7f0;1=1f`, by resource and domain; as numbers, for the kernel
/// writes them with other zeros and in other order than it was given.
fn shares(schemata: &str) -> BTreeMap<(String, String), String> {
    let mut shares = BTreeMap::new();
    for line in schemata.lines() {
        let Some((resource, values)) = line.split_once(':') else { continue };
        for value in values.split(';') {
            let Some((domain, value)) = value.split_once('=') else { continue };
            let plain = |number: &str| {
                let number = number.trim().trim_start_matches('0');
                if number.is_empty() { "0".to_owned() } else { number.to_lowercase() }
            };
            shares.insert((resource.trim().to_owned(), plain(domain)), plain(value));
        }
    }
    shares
}

#[cfg(test)]
#[path = "resctrl_tests.rs"]
mod tests;
