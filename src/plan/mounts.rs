//! `mounts`, the rootfs and what is hidden in it, as steps.

use std::ffi::{CStr, CString, OsStr};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::host_mounts::Tree;
use super::options::Options;
use super::step::{BindMount, FilesystemMount, Planned, Step};
use super::{Compiler, c_path, c_string};
use crate::error::{Error, Result};
use crate::sys::mount::{MountAttr, attr};

/// Some only where there is something to set.
pub(super) fn unless_empty(attributes: MountAttr) -> Option<MountAttr> {
    (attributes != MountAttr::default()).then_some(attributes)
}

impl Compiler<'_> {
    /// The rootfs and all mounts, in the order of the config.
    pub(super) fn mounts(&mut self, spec: &Spec) -> Result<()> {
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let json_path = format!("$.mounts[{index}]");
            let options = mount.options().as_deref().unwrap_or_default();
            let mut options = Options::parse(options, &json_path)?;
            let sealed = options.attributes.set & attr::RDONLY != 0;
            if sealed && options.is_new(mount.typ()) && is_written_to(spec, index) {
                self.seal(mount, &mut options, &json_path)?;
            }
            self.mount(mount, options, &json_path)?;
        }
        Ok(())
    }

    /// Leaves a mount open until all is made that belongs in it.
    fn seal(&mut self, mount: &Mount, options: &mut Options, json_path: &str) -> Result<()> {
        options.attributes.set &= !attr::RDONLY;
        options.superblock.retain(|word| *word != "ro");
        let step = Step::Remount {
            target: destination(mount.destination(), json_path)?,
            parameters: Vec::new(),
            attributes: MountAttr { set: attr::RDONLY, ..MountAttr::default() },
            recursive: None,
        };
        self.seals.push(Planned { step, asked_by: Some(json_path.to_owned()) });
        Ok(())
    }

    fn mount(&mut self, mount: &Mount, options: Options, json_path: &str) -> Result<()> {
        let target = destination(mount.destination(), json_path)?;
        let fstype = mount.typ().as_deref().unwrap_or("none");
        if options.remount {
            self.remount(target, options, json_path);
            return Ok(());
        }
        let bind = !options.is_new(mount.typ());
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
                not_asked: not_asked(&options.attributes),
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

/// What a bind mount loses that the config says anything of, as with runc and mount(8): the options of
/// its source that are not asked for. How the access time is kept stays.
fn not_asked(asked: &MountAttr) -> u64 {
    let any = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::NOSYMFOLLOW;
    if asked.set | asked.clear == 0 { 0 } else { any & !(asked.set | asked.clear) }
}

/// Whether more is made in a file system that is made for the container: mount points, devices, the
/// working directory.
fn is_written_to(spec: &Spec, index: usize) -> bool {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mount = &mounts[index];
    let path = cleaned(mount.destination());
    let is_dev = path == Path::new("/dev");
    if !is_dev && mount.typ().as_deref() != Some("tmpfs") {
        return false;
    }
    let later = || mounts[index + 1..].iter().map(|mount| cleaned(mount.destination()));
    // What is mounted over it hides it, and would be made read-only in its place.
    if later().any(|other| path.starts_with(other)) {
        return false;
    }
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    let devices = devices.into_iter().flatten().map(|device| cleaned(device.path()));
    let cwd = spec.process().iter().map(|process| cleaned(process.cwd()));
    is_dev || later().chain(devices).chain(cwd).any(|other| other.starts_with(&path))
}

/// The path as `..` and `.` leave it where no link is on the way.
fn cleaned(target: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in target.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            _ => {}
        }
    }
    cleaned
}

fn as_path(target: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(target.to_bytes()))
}

fn is_proc(target: &CString) -> bool {
    cleaned(as_path(target)) == Path::new("/proc")
}

/// Refuses what would hide the container's root or its /proc behind something else: programs ask
/// /proc how they are confined, and confine themselves by it (CVE-2019-16884).
fn check_place(target: &CString, bind: bool, fstype: &str, json_path: &str) -> Result<()> {
    let path = cleaned(as_path(target));
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
