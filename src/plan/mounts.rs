//! `mounts`, the rootfs and what is hidden in it, as steps.

use std::ffi::{CString, OsStr};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::host_mounts::Tree;
use super::options::Options;
use super::step::{BindMount, FilesystemMount, Step};
use super::{Compiler, c_path, c_string};
use crate::error::{Error, Result};
use crate::sys::mount::MountAttr;

/// Some only where there is something to set.
pub(super) fn unless_empty(attributes: MountAttr) -> Option<MountAttr> {
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
            self.remount(target, options, json_path);
            return Ok(());
        }
        let bind = options.bind.is_some() || fstype == "bind";
        check_place(&target, bind, fstype, json_path)?;
        if bind {
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
        let tmpfs = fstype.as_c_str() == c"tmpfs";
        let copy_up = options.copy_up && tmpfs;
        if copy_up {
            // The tmpfs is written before it is sealed: its read-only bit is the mount's alone.
            parameters.retain(|(key, _)| key.as_c_str() != c"ro");
        }
        parameters.extend(options.data);
        // mount(2) knows a tmpfs without a mode as one that everybody may write to: an image's /run
        // is to stay as it is.
        let mode_of_target = tmpfs && !parameters.iter().any(|(key, _)| key.as_c_str() == c"mode");
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
                copy_up,
                mode_of_target,
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
        for (key, _) in &options.data {
            let key = key.to_string_lossy();
            let warning = format!("{json_path}.options: {key:?} means nothing to a bind mount");
            self.warnings.push(warning);
        }
        let opened = self.sources.iter().position(|opened| opened == json_path);
        self.push(
            Step::Bind(BindMount {
                source: c_path(&source, || format!("{json_path}.source"))?,
                opened,
                procfs: is_proc(&target),
                target,
                with_submounts: options.bind.unwrap_or(true),
                slave: self.tree == Tree::OnHost,
                attributes: options.attributes,
                recursive: unless_empty(options.recursive),
            }),
            json_path,
        );
        Ok(())
    }

    /// Changes the mount, and its superblock where something is asked for that only that one has.
    ///
    /// Read-only is the mount's own, for the superblock may be one that the host has mounted too.
    fn remount(&mut self, target: CString, options: Options, json_path: &str) {
        let mut parameters = Vec::new();
        if options.bind.is_none() {
            let flags = options.superblock.iter().filter(|flag| !matches!(**flag, "ro" | "rw"));
            parameters.extend(flags.filter_map(|flag| Some((CString::new(*flag).ok()?, None))));
            parameters.extend(options.data);
        }
        let recursive = unless_empty(options.recursive);
        let attributes = options.attributes;
        self.push(Step::Remount { target, parameters, attributes, recursive }, json_path);
    }

    /// Masked and read-only paths; last, so that no mount of the config covers them.
    pub(super) fn hidden_paths(&mut self, spec: &Spec) -> Result<()> {
        let Some(linux) = spec.linux() else { return Ok(()) };
        for (index, path) in linux.readonly_paths().iter().flatten().enumerate() {
            let at = format!("$.linux.readonlyPaths[{index}]");
            let path = from_root(path, &at)?;
            self.push(Step::ReadOnly(path), at);
        }
        for (index, path) in linux.masked_paths().iter().flatten().enumerate() {
            let at = format!("$.linux.maskedPaths[{index}]");
            let path = from_root(path, &at)?;
            self.push(Step::Mask(path), at);
        }
        Ok(())
    }
}

/// What lxcfs shows in the place of files that tell of the whole host, and what has been bound there
/// for long: each a single file.
const MOUNTABLE_IN_PROC: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// The path as `..` and `.` leave it where no link is on the way.
fn cleaned(target: &CString) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in Path::new(OsStr::from_bytes(target.as_bytes())).components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            _ => {}
        }
    }
    cleaned
}

fn is_proc(target: &CString) -> bool {
    cleaned(target) == Path::new("/proc")
}

/// Refuses what would hide the container's root or its /proc behind something else: programs ask
/// /proc how they are confined, and confine themselves by it (CVE-2019-16884).
fn check_place(target: &CString, bind: bool, fstype: &str, json_path: &str) -> Result<()> {
    let path = cleaned(target);
    let refused = |message: &str| {
        let (at, value) = (format!("{json_path}.destination"), Some(format!("{path:?}")));
        Err(Error::spec(at, value, "config.md#mounts", message))
    };
    if path == Path::new("/") {
        return refused("the root itself cannot be mounted over");
    }
    let Ok(inside) = path.strip_prefix("/proc") else { return Ok(()) };
    let here = inside.as_os_str().is_empty();
    if here && !bind && fstype != "proc" {
        return refused("nothing but a procfs can be mounted on /proc");
    }
    if !here && !MOUNTABLE_IN_PROC.iter().any(|file| inside == Path::new(file)) {
        return refused("what is in /proc cannot be mounted over");
    }
    Ok(())
}

/// A name in a folder of the container.
pub(super) fn below(folder: &CString, name: &str, json_path: &str) -> Result<CString> {
    if name.is_empty() {
        return Ok(folder.clone());
    }
    let path = Path::new(OsStr::from_bytes(folder.as_bytes())).join(name);
    c_path(&path, || format!("{json_path}.destination"))
}

/// A destination as an absolute path; 1.0 allowed relative ones, meant from `/`.
fn destination(path: &Path, json_path: &str) -> Result<CString> {
    from_root(path, format_args!("{json_path}.destination"))
}

fn from_root(path: impl AsRef<Path>, at: impl Display) -> Result<CString> {
    c_path(&Path::new("/").join(path), || at.to_string())
}
