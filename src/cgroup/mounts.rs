//! What a mount of type `cgroup` inside the container needs to know.

use std::path::PathBuf;

use super::hierarchies::Version;
use super::plan::{CgroupPlan, Group};

/// The container's view below `/sys/fs/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMounts {
    /// Whether there is the unified hierarchy alone, which is then mounted there itself.
    pub unified_only: bool,
    /// Each hierarchy.
    pub hierarchies: Vec<CgroupMount>,
    /// Symbolic links, name and target, for controllers that share a hierarchy.
    pub links: Vec<(String, String)>,
}

/// One hierarchy of the container's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    /// Its version.
    pub version: Version,
    /// Its name below `/sys/fs/cgroup`: `cpu,cpuacct`, `systemd`, `unified`; empty for the
    /// unified hierarchy alone.
    pub name: String,
    /// The options that mount it anew, as a container with a cgroup namespace does.
    pub options: String,
    /// The container's directory on the host, to bind for one without.
    pub directory: PathBuf,
}

impl CgroupPlan {
    /// What a mount of type `cgroup` inside the container shows.
    pub fn mount_points(&self) -> CgroupMounts {
        let mut groups: Vec<&Group> = self.groups.iter().chain(&self.left_alone).collect();
        groups.sort_by_key(|group| {
            (group.hierarchy.version == Version::Two, &group.hierarchy.mount_point)
        });
        let unified_only = groups.iter().all(|group| group.hierarchy.version == Version::Two);
        let hierarchies = groups.iter().map(|group| CgroupMount::of(group, unified_only)).collect();
        let mut links = Vec::new();
        for group in groups.iter().filter(|group| group.hierarchy.version == Version::One) {
            let name = name(group);
            let controllers = group.hierarchy.controllers.iter();
            let others = controllers.filter(|controller| **controller != name);
            links.extend(others.map(|controller| (controller.clone(), name.clone())));
        }
        CgroupMounts { unified_only, hierarchies, links }
    }
}

impl CgroupMount {
    fn of(group: &Group, unified_only: bool) -> Self {
        let hierarchy = &group.hierarchy;
        let mut options = hierarchy.controllers.clone();
        if let Some(name) = &hierarchy.name {
            // Without controllers, "none" keeps the kernel from adding all that are free.
            if options.is_empty() {
                options.push("none".to_owned());
            }
            options.push(format!("name={name}"));
        }
        CgroupMount {
            version: hierarchy.version,
            name: if unified_only { String::new() } else { name(group) },
            options: match hierarchy.version {
                Version::One => options.join(","),
                Version::Two => String::new(),
            },
            directory: group.directory(),
        }
    }
}

/// The host's name for a hierarchy, which programs in the container expect.
fn name(group: &Group) -> String {
    match group.hierarchy.mount_point.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => group.hierarchy.controllers.join(","),
    }
}
