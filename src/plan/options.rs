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

    /// Whether it is asked to be a peer of what it is bound from.
    pub(super) fn is_shared(&self) -> bool {
        [&self.attributes, &self.recursive].iter().any(|a| a.propagation == libc::MS_SHARED)
    }

    fn add(&mut self, option: &str) -> std::result::Result<(), String> {
        if let Some((word, opposite)) = superblock_word(option) {
            self.superblock.retain(|other| *other != word && *other != opposite);
            self.superblock.push(word);
            // There is no such parameter: it is what all have that were not given the other.
            self.superblock.retain(|word| *word != "noiversion");
        }
        if merge(&mut self.attributes, option) {
            return Ok(());
        }
        if option.strip_prefix('r').is_some_and(|option| merge(&mut self.recursive, option)) {
            return Ok(());
        }
        if let Some((propagation, recursive)) = super::rootfs::propagation(option) {
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
            // What the kernel has to say of a mount goes to its maker, not to the log; and access
            // control lists are no option of the superblock's any more.
            "silent" | "loud" | "acl" | "noacl" => {}
            "idmap" => self.id_mapped = Some(false),
            "ridmap" => self.id_mapped = Some(true),
            _ if option.starts_with("x-") || superblock_word(option).is_some() => {}
            _ => self.data.push(parameter(option)?),
        }
        Ok(())
    }
}

/// The attribute bits that an option sets and clears.
fn attribute(option: &str) -> Option<(u64, u64)> {
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
        "nosymfollow" => (attr::NOSYMFOLLOW, 0),
        "symfollow" => (0, attr::NOSYMFOLLOW),
        _ => return None,
    })
}

/// Of the access time modes, the one that an option asks for, or the one that it takes back.
fn access_time(option: &str) -> Option<(u64, bool)> {
    Some(match option {
        "noatime" => (attr::NOATIME, true),
        "strictatime" => (attr::STRICTATIME, true),
        "relatime" => (attr::RELATIME, true),
        "atime" => (attr::NOATIME, false),
        "nostrictatime" => (attr::STRICTATIME, false),
        "norelatime" => (attr::RELATIME, false),
        _ => return None,
    })
}

/// Adds what an option says of a mount's attributes, if it says anything.
fn merge(attributes: &mut MountAttr, option: &str) -> bool {
    if let Some((set, clear)) = attribute(option) {
        attributes.set = attributes.set & !clear | set;
        attributes.clear = attributes.clear & !set | clear;
        return true;
    }
    let Some((mode, asked)) = access_time(option) else { return false };
    let chosen = attributes.clear & attr::ATIME_MASK != 0;
    if !asked && chosen && attributes.set & attr::ATIME_MASK != mode {
        // What is taken back is not what was chosen.
        return true;
    }
    // The mode is a field of several bits, set by clearing all of it first; none is not to be had.
    let mode = if asked { mode } else { attr::RELATIME };
    attributes.set = attributes.set & !attr::ATIME_MASK | mode;
    attributes.clear |= attr::ATIME_MASK;
    true
}

/// What fsconfig(2) calls a flag of the superblock, and its opposite.
///
/// Those of an option that is the mount's too, as mount(2) would set them on both.
fn superblock_word(option: &str) -> Option<(&'static str, &'static str)> {
    const OPPOSITES: [(&str, &str); 6] = [
        ("ro", "rw"),
        ("sync", "async"),
        ("lazytime", "nolazytime"),
        ("mand", "nomand"),
        ("iversion", "noiversion"),
        ("dirsync", ""),
    ];
    OPPOSITES.into_iter().find_map(|(on, off)| match option {
        _ if option == on => Some((on, off)),
        _ if option == off && !off.is_empty() => Some((off, on)),
        _ => None,
    })
}

fn parameter(option: &str) -> std::result::Result<(CString, Option<CString>), String> {
    let c_string = |text: &str| CString::new(text).map_err(|_| "a NUL byte in it".to_owned());
    Ok(match option.split_once('=') {
        // mount(2) takes the quotes off that keep a label's commas together; fsconfig(2) does not.
        Some((key, value)) if super::labels::is_context(key.as_bytes()) => {
            (c_string(key)?, Some(c_string(value.trim_matches('"'))?))
        }
        Some((key, value)) => (c_string(key)?, Some(c_string(value)?)),
        None => (c_string(option)?, None),
    })
}
