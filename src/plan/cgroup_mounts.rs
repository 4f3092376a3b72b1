//! A mount of type `cgroup`: what the container may see of its own cgroup.

use std::ffi::{CStr, CString};
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::host_mounts::Tree;
use super::mounts::{below, unless_empty};
use super::namespaces::asked_for;
use super::options::Options;
use super::step::{BindMount, FilesystemMount, Namespace, Step};
use super::{Compiler, c_path, c_string};
use crate::cgroup::{CgroupMount, Version};
use crate::error::Result;
use crate::sys::mount::{MountAttr, attr};

/// The host's number for the user of the program, whose the cgroup is to be: where it has a cgroup
/// namespace of its own and a mount in which it may write (config-linux.md#cgroup-ownership).
pub(super) fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    asked_for(spec, LinuxNamespaceType::Cgroup).filter(|it| it.path().is_none())?;
    let writable = |mount: &Mount| {
        matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"))
            && mount.destination() == Path::new("/sys/fs/cgroup")
            && !mount.options().iter().flatten().any(|option| option == "ro")
    };
    if !spec.mounts().iter().flatten().any(writable) {
        return None;
    }
    let user = spec.process().as_ref()?.user().uid();
    let Some(own) = asked_for(spec, LinuxNamespaceType::User) else { return Some(user) };
    // Of one that is joined, the ids are not in the config.
    own.path().is_none().then_some(())?;
    linux.uid_mappings().iter().flatten().find_map(|range| {
        let offset = user.checked_sub(range.container_id())?;
        (offset < range.size()).then(|| range.host_id() + offset)
    })
}

impl Compiler<'_> {
    pub(super) fn cgroup_mount(
        &mut self,
        target: &CString,
        options: &Options,
        json_path: &str,
    ) -> Result<()> {
        self.await_cgroup();
        let points = self.cgroup.mount_points();
        if let (true, false, Some(own)) =
            (points.unified_only, self.has(Namespace::Cgroup), points.hierarchies.first())
        {
            return self.cgroup_hierarchy(own, target, options, json_path);
        }
        if points.unified_only {
            let parameters = options.data.clone();
            self.cgroup_file_system(c"cgroup2", target.clone(), parameters, options, json_path);
            return Ok(());
        }
        let read_only = options.attributes.set & attr::RDONLY;
        let attributes = options.attributes;
        let writable = MountAttr { set: attributes.set & !read_only, ..attributes };
        let mut folder = file_system(c"tmpfs", c"tmpfs", target.clone(), writable);
        folder.parameters = vec![(c"mode".to_owned(), Some(c"755".to_owned()))];
        self.push(Step::Mount(folder), json_path);
        for point in &points.hierarchies {
            self.cgroup_hierarchy(point, target, options, json_path)?;
        }
        for (name, to) in &points.links {
            let target_of_link = c_string(to, || json_path.to_owned())?;
            let path = below(target, name, json_path)?;
            self.push(Step::Link { target: target_of_link, path, replace: false }, json_path);
        }
        // Only now: nothing can be mounted in a folder that cannot be made. The hierarchies are
        // the mounts below it.
        let attributes = MountAttr { set: read_only, ..MountAttr::default() };
        let recursive = unless_empty(options.recursive);
        if read_only != 0 || recursive.is_some() {
            let (target, parameters) = (target.clone(), Vec::new());
            self.push(Step::Remount { target, parameters, attributes, recursive }, json_path);
        }
        Ok(())
    }

    /// One hierarchy: mounted anew in a cgroup namespace, whose root is the container's cgroup;
    /// else the container's own directory is bound, and nothing above it is in sight.
    fn cgroup_hierarchy(
        &mut self,
        point: &CgroupMount,
        target: &CString,
        options: &Options,
        json_path: &str,
    ) -> Result<()> {
        let target = below(target, &point.name, json_path)?;
        if !self.has(Namespace::Cgroup) {
            let mut attributes = options.attributes;
            if attributes.propagation == 0 {
                // No word of the user's is about the hierarchy that stands behind it.
                attributes.propagation = self.apart();
            }
            let bind = BindMount {
                source: c_path(&point.directory, || "$.linux.cgroupsPath".to_owned())?,
                opened: None,
                target,
                procfs: false,
                with_submounts: false,
                slave: self.tree == Tree::OnHost,
                attributes,
                not_asked: 0,
                recursive: unless_empty(options.recursive),
            };
            self.push(Step::Bind(bind), json_path);
            return Ok(());
        }
        let fstype = if point.version == Version::Two { c"cgroup2" } else { c"cgroup" };
        let mut parameters = Vec::new();
        for option in point.options.split(',').filter(|option| !option.is_empty()) {
            let mut parts = option.splitn(2, '=').map(CString::new);
            // Names of controllers, from the kernel: without a NUL.
            let key = parts.next().and_then(|key| key.ok()).unwrap_or_default();
            parameters.push((key, parts.next().and_then(|value| value.ok())));
        }
        self.cgroup_file_system(fstype, target, parameters, options, json_path);
        Ok(())
    }

    fn cgroup_file_system(
        &mut self,
        fstype: &CStr,
        target: CString,
        parameters: Vec<(CString, Option<CString>)>,
        options: &Options,
        json_path: &str,
    ) {
        let mut mount = file_system(fstype, c"cgroup", target, options.attributes);
        mount.parameters = parameters;
        mount.recursive = unless_empty(options.recursive);
        self.push(Step::Mount(mount), json_path);
    }
}

fn file_system(
    fstype: &CStr,
    source: &CStr,
    target: CString,
    attributes: MountAttr,
) -> FilesystemMount {
    FilesystemMount {
        fstype: fstype.to_owned(),
        source: source.to_owned(),
        target,
        direct: false,
        parameters: Vec::new(),
        attributes,
        recursive: None,
        copy_up: false,
        mode_of_target: false,
    }
}
