//! Which limit goes into which hierarchy.

use oci_spec::runtime::LinuxResources;

use super::devices;
use super::hierarchies::Version;
use super::plan::{Absent, Group, Write};
use super::{v1, v2};
use crate::error::{Error, Kind, Result};

/// A kind of limit: the controller that keeps it in each version, and how it is written there.
struct Limit {
    v1: Option<&'static str>,
    v2: Option<&'static str>,
    writes: fn(&LinuxResources, Version) -> Result<Vec<Write>>,
}

macro_rules! limit {
    ($v1:expr, $v2:expr, $field:ident, $of:ident) => {
        Limit {
            v1: $v1,
            v2: $v2,
            writes: |resources, version| match (resources.$field(), version) {
                (None, _) => Ok(Vec::new()),
                (Some(asked), Version::One) => v1::$of(asked),
                (Some(asked), Version::Two) => v2::$of(asked),
            },
        }
    };
}

const LIMITS: &[Limit] = &[
    limit!(Some("memory"), Some("memory"), memory, memory),
    limit!(Some("cpu"), Some("cpu"), cpu, cpu),
    limit!(Some("cpuset"), Some("cpuset"), cpu, cpuset),
    limit!(Some("pids"), Some("pids"), pids, pids),
    limit!(Some("blkio"), Some("io"), block_io, block_io),
    limit!(Some("hugetlb"), Some("hugetlb"), hugepage_limits, hugetlb),
    limit!(Some("net_cls"), None, network, net_cls),
    limit!(Some("net_prio"), None, network, net_prio),
    limit!(Some("rdma"), Some("rdma"), rdma, rdma),
];

/// Puts each limit into the group whose hierarchy keeps it.
///
/// `devices` says whether the default devices are allowed too; none where devices may not be
/// restricted at all.
pub(super) fn distribute(
    resources: &LinuxResources,
    devices: Option<bool>,
    groups: &mut [Group],
    warnings: &mut Vec<String>,
) -> Result<()> {
    for limit in LIMITS {
        place(limit, resources, groups)?;
    }
    unified(resources, groups)?;
    if let (Some(with_defaults), Some(rules)) = (devices, resources.devices()) {
        devices::place(rules, with_defaults, groups)?;
    }
    let kernel = resources.memory().and_then(|memory| memory.kernel().or(memory.kernel_tcp()));
    if kernel.is_some_and(|limit| limit != 0) {
        warnings.push("a limit on kernel memory is ignored, as the kernel has dropped it".into());
    }
    Ok(())
}

fn place(limit: &Limit, resources: &LinuxResources, groups: &mut [Group]) -> Result<()> {
    let keeps = |group: &Group| {
        let controller = match group.hierarchy.version {
            Version::One => limit.v1,
            Version::Two => limit.v2,
        };
        controller.is_some_and(|controller| group.has(controller))
    };
    let Some(group) = groups.iter_mut().find(|group| keeps(group)) else {
        // Version 2 has no name for some; then version 1's is what is missing.
        let unified = groups.iter().all(|group| group.hierarchy.version == Version::Two);
        let (version, controller) = match (unified && !groups.is_empty(), limit.v2) {
            (true, Some(controller)) => (Version::Two, controller),
            _ => (Version::One, limit.v1.unwrap_or_default()),
        };
        let writes = (limit.writes)(resources, version)?;
        // What holds without the file needs nobody to keep it.
        return match writes.iter().find(|write| write.absent != Absent::Skipped) {
            Some(write) => Err(missing(controller, &write.property)),
            None => Ok(()),
        };
    };
    let writes = (limit.writes)(resources, group.hierarchy.version)?;
    if let (Version::Two, Some(controller), Some(first)) =
        (group.hierarchy.version, limit.v2, writes.first())
    {
        group.needed.push((controller.to_owned(), first.property.clone()));
    }
    group.writes.extend(writes);
    Ok(())
}

/// The error for a limit that no mounted hierarchy keeps.
pub(super) fn missing(controller: &str, property: &str) -> Error {
    Error::new(Kind::Other, format!("no mounted cgroup hierarchy has the {controller} controller"))
        .asked_by(property)
        .hint(format!("mount the {controller} controller or drop {property}"))
}

/// `unified` names files of version 2; they go there as they stand.
fn unified(resources: &LinuxResources, groups: &mut [Group]) -> Result<()> {
    let Some(files) = resources.unified().as_ref().filter(|files| !files.is_empty()) else {
        return Ok(());
    };
    let mut files: Vec<(&String, &String)> = files.iter().collect();
    files.sort();
    let group = groups.last_mut().filter(|group| group.hierarchy.version == Version::Two);
    let Some(group) = group else {
        return Err(Error::new(Kind::Other, "no unified cgroup hierarchy is mounted")
            .asked_by("$.linux.resources.unified")
            .hint("mount cgroup2 or use the other properties of $.linux.resources"));
    };
    for (file, value) in files {
        let property = format!("$.linux.resources.unified[{file:?}]");
        if file.contains('/') || !file.contains('.') || file.starts_with('.') {
            let section = "config-linux.md#unified";
            return Err(Error::spec(property, Some(value.clone()), section, "not a file's name"));
        }
        let controller = file.split('.').next().unwrap_or_default();
        if controller != "cgroup" {
            if !group.has(controller) {
                return Err(missing(&format!("{controller} (version 2)"), &property));
            }
            group.needed.push((controller.to_owned(), property.clone()));
        }
        // The kernel takes one line a write.
        let lines = value.trim_end_matches('\n').split('\n');
        group.writes.extend(lines.map(|line| Write::new(file, line, &property)));
    }
    Ok(())
}
