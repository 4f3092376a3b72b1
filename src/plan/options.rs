//! The mount options of config.md#mounts, each with what it means to the kernel.

use std::ffi::CString;

use crate::error::{Error, Result};
use crate::sys::mount::{MountAttr, attr};

/// A list of options, understood.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// `bind` or `rbind`; the latter takes the mounts below along.
    pub(super) bind: Option<bool>,
    pub(super) remount: bool,
    pub(super) copy_up: bool,
    /// `idmap` or `ridmap`; the latter maps the ids of the mounts below too.
    pub(super) id_mapped: Option<bool>,
    /// Attributes of the one mount.
    pub(super) attributes: MountAttr,
    /// Attributes of the mount and all below it.
    pub(super) recursive: MountAttr,
    /// Flags of the superblock, for a new file system.
    pub(super) superblock: Vec<&'static str>,
    /// What only the file system itself understands.
    pub(super) data: Vec<(CString, Option<CString>)>,
}

impl Options {
    /// Reads a mount's options; later ones win over earlier ones.
    pub(super) fn parse(options: &[String], json_path: &str) -> Result<Self> {
        let mut parsed = Options::default();
        for (index, option) in options.iter().enumerate() {
            let at = || format!("{json_path}.options[{index}]");
            parsed.add(option).map_err(|message| {
                Error::spec(at(), Some(format!("{option:?}")), "config.md#mounts", message)
            })?;
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> std::result::Result<(), String> {
        if let Some((set, clear)) = attribute(option) {
            merge(&mut self.attributes, set, clear);
            if let Some(flag) = superblock_flag(option) {
                self.superblock.retain(|other| *other != "ro" && *other != "rw");
                self.superblock.push(flag);
            }
            return Ok(());
        }
        let recursive = option.strip_prefix('r').and_then(attribute);
        if let (Some((set, clear)), false) = (recursive, option == "relatime") {
            merge(&mut self.recursive, set, clear);
            return Ok(());
        }
        if let Some((propagation, recursive)) = super::mounts::propagation(option) {
            let attributes = if recursive { &mut self.recursive } else { &mut self.attributes };
            attributes.propagation = propagation;
            return Ok(());
        }
        match option {
            "defaults" | "" => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "async" => self.superblock.retain(|flag| *flag != "sync"),
            "sync" => self.superblock.push("sync"),
            "dirsync" => self.superblock.push("dirsync"),
            "lazytime" => self.superblock.push("lazytime"),
            "nolazytime" => self.superblock.retain(|flag| *flag != "lazytime"),
            "mand" => self.superblock.push("mand"),
            "nomand" => self.superblock.retain(|flag| *flag != "mand"),
            // The mount attributes have no bit for these, and mount(2) ignores them for new mounts.
            "silent" | "loud" | "iversion" | "noiversion" | "acl" | "noacl" => {}
            "idmap" => self.id_mapped = Some(false),
            "ridmap" => self.id_mapped = Some(true),
            _ if option.starts_with("x-") => {}
            _ => self.data.push(parameter(option)?),
        }
        Ok(())
    }
}

/// The attribute bits that an option sets and clears.
fn attribute(option: &str) -> Option<(u64, u64)> {
    // An access time mode is a field of several bits, set by clearing all of it first.
    Some(match option {
        "ro" => (attr::RDONLY, 0),
        "rw" => (0, attr::RDONLY),
        "nosuid" => (attr::NOSUID, 0),
        "suid" => (0, attr::NOSUID),
        "nodev" => (attr::NODEV, 0),
        "dev" => (0, attr::NODEV),
        "noexec" => (attr::NOEXEC, 0),
        "exec" => (0, attr::NOEXEC),
        "nodiratime" => (attr::NODIRATIME, 0),
        "diratime" => (0, attr::NODIRATIME),
        "noatime" => (attr::NOATIME, attr::ATIME_MASK),
        "strictatime" => (attr::STRICTATIME, attr::ATIME_MASK),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (attr::RELATIME, attr::ATIME_MASK),
        "nosymfollow" => (attr::NOSYMFOLLOW, 0),
        "symfollow" => (0, attr::NOSYMFOLLOW),
        _ => return None,
    })
}

/// mount(2) would set these on the superblock too.
fn superblock_flag(option: &str) -> Option<&'static str> {
    match option {
        "ro" => Some("ro"),
        "rw" => Some("rw"),
        _ => None,
    }
}

fn merge(attributes: &mut MountAttr, set: u64, clear: u64) {
    attributes.set = attributes.set & !clear | set;
    attributes.clear = attributes.clear & !set | clear;
}

fn parameter(option: &str) -> std::result::Result<(CString, Option<CString>), String> {
    let c_string = |text: &str| CString::new(text).map_err(|_| "a NUL byte in it".to_owned());
    Ok(match option.split_once('=') {
        Some((key, value)) => (c_string(key)?, Some(c_string(value)?)),
        None => (c_string(option)?, None),
    })
}
