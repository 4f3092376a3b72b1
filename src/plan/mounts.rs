//! `mounts`, the rootfs and what is hidden in it, as steps.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use super::options::Options;
use super::step::{BindMount, FilesystemMount, Namespace, Planned, Step};
use super::{Compiler, c_path, c_string, unsupported};
use crate::cgroup::{CgroupMount, Version};
use crate::error::{Error, Result};
use crate::sys::mount::{MountAttr, attr};

/// The flag and the reach of a propagation word (config.md#mounts, mount_namespaces(7)).
pub(super) fn propagation(word: &str) -> Option<(u64, bool)> {
    let recursive = word.starts_with('r');
    let flag = match word.strip_prefix('r').unwrap_or(word) {
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "private" => libc::MS_PRIVATE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some((flag, recursive))
}

/// Some only where there is something to set.
fn unless_empty(attributes: MountAttr) -> Option<MountAttr> {
    (attributes != MountAttr::default()).then_some(attributes)
}

impl Compiler<'_> {
    /// The rootfs and all mounts, in the order of the config.
    pub(super) fn mounts(&mut self, spec: &Spec) -> Result<()> {
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let json_path = format!("$.mounts[{index}]");
            self.mount(mount, &json_path)?;
        }
        Ok(())
    }

    fn mount(&mut self, mount: &Mount, json_path: &str) -> Result<()> {
        let no_options = Vec::new();
        let given = mount.options().as_ref().unwrap_or(&no_options);
        let options = Options::parse(given, json_path)?;
        let target = destination(mount.destination(), json_path)?;
        let fstype = mount.typ().as_deref().unwrap_or("none");
        if options.remount {
            return self.remount(target, options, json_path);
        }
        if options.bind.is_some() || fstype == "bind" {
            return self.bind(mount, target, options, json_path);
        }
        if matches!(fstype, "cgroup" | "cgroup2") {
            return self.cgroup_mount(&target, &options, json_path);
        }
        let source = mount.source().as_deref().unwrap_or(Path::new(fstype));
        let fstype = c_string(fstype, || format!("{json_path}.type"))?;
        let source = c_path(source, || format!("{json_path}.source"))?;
        self.filesystem(fstype, source, target, options, json_path);
        Ok(())
    }

    fn filesystem(
        &mut self,
        fstype: CString,
        source: CString,
        target: CString,
        options: Options,
        json_path: &str,
    ) {
        let mut parameters: Vec<(CString, Option<CString>)> = options
            .superblock
            .iter()
            .filter_map(|flag| Some((CString::new(*flag).ok()?, None)))
            .collect();
        if options.copy_up {
            // The tmpfs is written before it is sealed: its read-only bit is the mount's alone.
            parameters.retain(|(key, _)| key.as_c_str() != c"ro");
        }
        parameters.extend(options.data);
        // Masked and read-only paths are looked for below these: a link that leads elsewhere now
        // may lead nowhere then.
        let direct = matches!(fstype.as_bytes(), b"proc" | b"sysfs");
        self.push(
            Step::Mount(FilesystemMount {
                fstype,
                direct,
                source,
                target,
                parameters,
                attributes: options.attributes,
                recursive: unless_empty(options.recursive),
                copy_up: options.copy_up,
            }),
            json_path,
        );
    }

    fn bind(
        &mut self,
        mount: &Mount,
        target: CString,
        options: Options,
        json_path: &str,
    ) -> Result<()> {
        let Some(source) = mount.source() else {
            return Err(Error::spec(
                format!("{json_path}.source"),
                None,
                "config.md#mounts",
                "a bind mount needs a source",
            ));
        };
        // config.md: a relative source is relative to the bundle.
        let source = self.situation.bundle.join(source);
        let opened = self.sources.iter().position(|opened| opened == json_path);
        self.push(
            Step::Bind(BindMount {
                source: c_path(&source, || format!("{json_path}.source"))?,
                opened,
                target,
                with_submounts: options.bind.unwrap_or(true),
                attributes: options.attributes,
                recursive: unless_empty(options.recursive),
            }),
            json_path,
        );
        Ok(())
    }

    fn remount(&mut self, target: CString, options: Options, json_path: &str) -> Result<()> {
        if let Some((key, _)) = options.data.first() {
            let what = format!("changing {:?} of a mounted file system is", key.to_string_lossy());
            return Err(unsupported(&format!("{json_path}.options"), "config.md#mounts", &what));
        }
        self.push(
            Step::Remount {
                target,
                attributes: options.attributes,
                recursive: unless_empty(options.recursive),
            },
            json_path,
        );
        Ok(())
    }

    /// A mount of type `cgroup`: what the container may see of its own cgroup.
    fn cgroup_mount(&mut self, target: &CString, options: &Options, json_path: &str) -> Result<()> {
        self.await_cgroup();
        let points = self.cgroup.mount_points();
        if let (true, false, Some(own)) =
            (points.unified_only, self.has(Namespace::Cgroup), points.hierarchies.first())
        {
            return self.cgroup_hierarchy(own, target, options, json_path);
        }
        if points.unified_only {
            let (fstype, source) = (c"cgroup2".to_owned(), c"cgroup".to_owned());
            self.new_mount(
                fstype,
                source,
                target.clone(),
                Vec::new(),
                options.attributes,
                json_path,
            );
            return Ok(());
        }
        let read_only = options.attributes.set & attr::RDONLY;
        let writable = MountAttr { set: options.attributes.set & !read_only, ..options.attributes };
        let mode = vec![(c"mode".to_owned(), Some(c"755".to_owned()))];
        let (fstype, source) = (c"tmpfs".to_owned(), c"tmpfs".to_owned());
        self.new_mount(fstype, source, target.clone(), mode, writable, json_path);
        for point in &points.hierarchies {
            self.cgroup_hierarchy(point, target, options, json_path)?;
        }
        for (name, to) in &points.links {
            let target_of_link = c_string(to, || json_path.to_owned())?;
            let path = below(target, name, json_path)?;
            self.push(Step::Link { target: target_of_link, path }, json_path);
        }
        if read_only != 0 {
            let attributes = MountAttr { set: read_only, ..MountAttr::default() };
            let step = Step::Remount { target: target.clone(), attributes, recursive: None };
            self.push(step, json_path);
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
            let source = c_path(&point.directory, || "$.linux.cgroupsPath".to_owned())?;
            let attributes = options.attributes;
            let bind = BindMount {
                source,
                opened: None,
                target,
                with_submounts: false,
                attributes,
                recursive: None,
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
        let (fstype, source) = (fstype.to_owned(), c"cgroup".to_owned());
        self.new_mount(fstype, source, target, parameters, options.attributes, json_path);
        Ok(())
    }

    fn new_mount(
        &mut self,
        fstype: CString,
        source: CString,
        target: CString,
        parameters: Vec<(CString, Option<CString>)>,
        attributes: MountAttr,
        json_path: &str,
    ) {
        let mount = FilesystemMount {
            fstype,
            source,
            target,
            direct: false,
            parameters,
            attributes,
            recursive: None,
            copy_up: false,
        };
        self.push(Step::Mount(mount), json_path);
    }

    /// Masked and read-only paths; last, so that no mount of the config covers them.
    pub(super) fn hidden_paths(&mut self, spec: &Spec) -> Result<()> {
        let Some(linux) = spec.linux() else { return Ok(()) };
        for (index, path) in linux.readonly_paths().iter().flatten().enumerate() {
            let at = format!("$.linux.readonlyPaths[{index}]");
            let path = c_string(path, || at.clone())?;
            self.push(Step::ReadOnly(path), at);
        }
        for (index, path) in linux.masked_paths().iter().flatten().enumerate() {
            let at = format!("$.linux.maskedPaths[{index}]");
            let path = c_string(path, || at.clone())?;
            self.push(Step::Mask(path), at);
        }
        Ok(())
    }

    /// Steps that make the rootfs a mount of its own, before anything goes into it.
    pub(super) fn attach_rootfs(&mut self, rootfs: &Path) -> Result<()> {
        self.steps.push(Planned { step: Step::DetachPropagation, asked_by: None });
        let path = c_path(rootfs, || "$.root.path".to_owned())?;
        self.push(Step::AttachRootfs { path }, "$.root.path");
        Ok(())
    }

    /// Into the rootfs, and its own attributes.
    pub(super) fn enter_rootfs(&mut self, spec: &Spec) -> Result<()> {
        if self.has(Namespace::Mount) {
            self.push(Step::Pivot, "$.root.path");
        } else {
            self.push(Step::Chroot, "$.root.path");
            return Ok(());
        }
        let read_only = spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly);
        if read_only == Some(true) {
            let attributes = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
            self.push(Step::RootAttributes(attributes), "$.root.readonly");
        }
        let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
        if let Some(word) = word.filter(|word| !word.is_empty()) {
            let at = "$.linux.rootfsPropagation";
            let Some((propagation, _)) = propagation(word) else {
                let section = "config-linux.md#rootfs-mount-propagation";
                return Err(Error::spec(at, Some(format!("{word:?}")), section, "no propagation"));
            };
            let attributes = MountAttr { propagation, ..MountAttr::default() };
            self.push(Step::RootAttributes(attributes), at);
        }
        Ok(())
    }
}

/// A name in a folder of the container.
fn below(folder: &CString, name: &str, json_path: &str) -> Result<CString> {
    if name.is_empty() {
        return Ok(folder.clone());
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(folder.as_bytes())).join(name);
    c_path(&path, || format!("{json_path}.destination"))
}

/// A destination as an absolute path; 1.0 allowed relative ones, meant from `/`.
fn destination(path: &Path, json_path: &str) -> Result<CString> {
    c_path(&Path::new("/").join(path), || format!("{json_path}.destination"))
}
