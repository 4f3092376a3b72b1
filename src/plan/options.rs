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

    /// Whether it makes a mount of a file system, and shows none that is there already.
    pub(super) fn is_new(&self, fstype: &Option<String>) -> bool {
        !self.remount && self.bind.is_none() && fstype.as_deref() != Some("bind")
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
        let word = WORDS.iter().find(|(name, _)| *name == option).map(|(_, word)| *word);
        match word {
            Some(Word::Nothing) => {}
            Some(Word::Bind { all }) => self.bind = Some(all || self.bind.unwrap_or(false)),
            Some(Word::IdMapped { all }) => self.id_mapped = Some(all),
            Some(Word::Remount) => self.remount = true,
            Some(Word::CopyUp) => self.copy_up = true,
            None if option.is_empty() || option.starts_with("x-") => {}
            None if superblock_word(option).is_some() => {}
            None => self.data.push(parameter(option)?),
        }
        Ok(())
    }
}

/// What an option says that is neither the mount's attribute nor the superblock's.
#[derive(Clone, Copy)]
enum Word {
    Bind { all: bool },
    IdMapped { all: bool },
    Remount,
    CopyUp,
    Nothing,
}

const WORDS: [(&str, Word); 11] = [
    ("defaults", Word::Nothing),
    ("bind", Word::Bind { all: false }),
    ("rbind", Word::Bind { all: true }),
    ("idmap", Word::IdMapped { all: false }),
    ("ridmap", Word::IdMapped { all: true }),
    ("remount", Word::Remount),
    ("tmpcopyup", Word::CopyUp),
    // What the kernel has to say of a mount goes to its maker, not to the log; and access control
    // lists are no option of the superblock's any more.
    ("silent", Word::Nothing),
    ("loud", Word::Nothing),
    ("acl", Word::Nothing),
    ("noacl", Word::Nothing),
];

/// The attribute bits that an option sets and clears; with an `r` before it, below the mount too.
const ATTRIBUTES: [(&str, u64, u64); 12] = [
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
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
    ("symfollow", 0, attr::NOSYMFOLLOW),
];

/// Of the access time modes, the one that an option asks for, or the one that it takes back; with
/// an `r` before it, below the mount too.
const ACCESS_TIMES: [(&str, u64, bool); 6] = [
    ("noatime", attr::NOATIME, true),
    ("strictatime", attr::STRICTATIME, true),
    ("relatime", attr::RELATIME, true),
    ("atime", attr::NOATIME, false),
    ("nostrictatime", attr::STRICTATIME, false),
    ("norelatime", attr::RELATIME, false),
];

/// What fsconfig(2) calls a flag of the superblock, and its opposite.
///
/// Those of an option that is the mount's too, as mount(2) would set them on both.
const OPPOSITES: [(&str, &str); 6] = [
    ("ro", "rw"),
    ("sync", "async"),
    ("lazytime", "nolazytime"),
    ("mand", "nomand"),
    ("iversion", "noiversion"),
    ("dirsync", ""),
];

/// Every option that is understood here, and not handed to the file system as it stands.
pub(crate) fn option_names() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|(name, ..)| *name);
    let times = ACCESS_TIMES.iter().map(|(name, ..)| *name);
    let propagations = super::rootfs::PROPAGATIONS.iter().map(|(name, _)| *name);
    let superblock = OPPOSITES.iter().flat_map(|(on, off)| [*on, *off]);
    let mut names: Vec<String> = attributes
        .chain(times)
        .chain(propagations)
        .flat_map(|name| [name.to_owned(), format!("r{name}")])
        .chain(superblock.chain(WORDS.iter().map(|(name, _)| *name)).map(str::to_owned))
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    // What is both the mount's and the superblock's.
    names.dedup();
    names
}

/// Adds what an option says of a mount's attributes, if it says anything.
fn merge(attributes: &mut MountAttr, option: &str) -> bool {
    if let Some((_, set, clear)) = ATTRIBUTES.iter().find(|(name, ..)| *name == option) {
        attributes.set = attributes.set & !clear | set;
        attributes.clear = attributes.clear & !set | clear;
        return true;
    }
    let Some(&(_, mode, asked)) = ACCESS_TIMES.iter().find(|(name, ..)| *name == option) else {
        return false;
    };
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

fn superblock_word(option: &str) -> Option<(&'static str, &'static str)> {
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
