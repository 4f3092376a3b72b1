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
        if let Some((set, clear)) = attribute(option) {
            merge(&mut self.attributes, set, clear);
            if let Some(flag) = superblock_flag(option) {
                self.superblock.retain(|other| *other != "ro" && *other != "rw");
                self.superblock.push(flag);
            }
            return Ok(());
        }
        let recursive = option.strip_prefix('r').and_then(attribute);
        if let Some((set, clear)) = recursive {
            merge(&mut self.recursive, set, clear);
            return Ok(());
        }
        if let Some((propagation, recursive)) = super::rootfs::propagation(option) {
            let attributes = if recursive { &mut self.recursive } else { &mut self.attributes };
            attributes.propagation = propagation;
            return Ok(());
        }
        let word = WORDS.iter().find(|(name, _)| *name == option).map(|(_, word)| *word);
        match word {
            Some(Word::Nothing) => {}
            Some(Word::Bind) => self.bind = Some(self.bind.unwrap_or(false)),
            Some(Word::BindAll) => self.bind = Some(true),
            Some(Word::Remount) => self.remount = true,
            Some(Word::CopyUp) => self.copy_up = true,
            Some(Word::Superblock(flag)) => self.superblock.push(flag),
            Some(Word::NotSuperblock(flag)) => self.superblock.retain(|other| *other != flag),
            None if matches!(option, "idmap" | "ridmap") => {
                return Err("id-mapped mounts are not supported yet".to_owned());
            }
            None if option.is_empty() || option.starts_with("x-") => {}
            None => self.data.push(parameter(option)?),
        }
        Ok(())
    }
}

/// What an option says that is none of a mount's attributes.
#[derive(Clone, Copy)]
enum Word {
    Bind,
    BindAll,
    Remount,
    CopyUp,
    Superblock(&'static str),
    NotSuperblock(&'static str),
    Nothing,
}

const WORDS: [(&str, Word); 18] = [
    ("defaults", Word::Nothing),
    ("bind", Word::Bind),
    ("rbind", Word::BindAll),
    ("remount", Word::Remount),
    ("tmpcopyup", Word::CopyUp),
    ("sync", Word::Superblock("sync")),
    ("async", Word::NotSuperblock("sync")),
    ("dirsync", Word::Superblock("dirsync")),
    ("lazytime", Word::Superblock("lazytime")),
    ("nolazytime", Word::NotSuperblock("lazytime")),
    ("mand", Word::Superblock("mand")),
    ("nomand", Word::NotSuperblock("mand")),
    // The mount attributes have no bit for these, and mount(2) ignores them for new mounts.
    ("silent", Word::Nothing),
    ("loud", Word::Nothing),
    ("iversion", Word::Nothing),
    ("noiversion", Word::Nothing),
    ("acl", Word::Nothing),
    ("noacl", Word::Nothing),
];

/// The attribute bits that an option sets and clears; with an `r` before it, below the mount too.
///
/// An access time mode is a field of several bits, set by clearing all of it first.
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("nodiratime", attr::NODIRATIME, 0),
    ("diratime", 0, attr::NODIRATIME),
    ("noatime", attr::NOATIME, attr::ATIME_MASK),
    ("strictatime", attr::STRICTATIME, attr::ATIME_MASK),
    ("relatime", attr::RELATIME, attr::ATIME_MASK),
    ("atime", attr::RELATIME, attr::ATIME_MASK),
    ("norelatime", attr::RELATIME, attr::ATIME_MASK),
    ("nostrictatime", attr::RELATIME, attr::ATIME_MASK),
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
    ("symfollow", 0, attr::NOSYMFOLLOW),
];

fn attribute(option: &str) -> Option<(u64, u64)> {
    let row = ATTRIBUTES.iter().find(|(name, ..)| *name == option);
    row.map(|(_, set, clear)| (*set, *clear))
}

/// Every option that is understood here, and not handed to the file system as it stands.
pub(crate) fn option_names() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|(name, ..)| *name);
    let propagations = super::rootfs::PROPAGATIONS.iter().map(|(name, _)| *name);
    let mut names: Vec<String> = attributes
        .chain(propagations)
        .flat_map(|name| [name.to_owned(), format!("r{name}")])
        .chain(WORDS.iter().map(|(name, _)| (*name).to_owned()))
        .collect();
    names.sort();
    names
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
        // mount(2) takes the quotes off that keep a label's commas together; fsconfig(2) does not.
        Some((key, value)) if super::labels::is_context(key.as_bytes()) => {
            (c_string(key)?, Some(c_string(value.trim_matches('"'))?))
        }
        Some((key, value)) => (c_string(key)?, Some(c_string(value)?)),
        None => (c_string(option)?, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_not_left_to_the_file_system() -> Result<()> {
        let names = option_names();
        assert!(names.windows(2).all(|two| two[0] < two[1]), "a name is there twice");
        for name in names {
            let parsed = Options::parse(std::slice::from_ref(&name), "$.mounts[0]")?;
            assert!(parsed.data.is_empty(), "{name}");
        }
        let parsed = Options::parse(&["size=1m".to_owned()], "$.mounts[0]")?;
        assert_eq!(parsed.data.len(), 1);
        Ok(())
    }
}
