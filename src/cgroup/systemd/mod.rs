//! Cgroups that systemd makes: a transient scope for each container, in a slice.
//!
//! On a host that systemd runs, cgroups are its property: what others make
//! among its units it may move, limit or remove. A scope with `Delegate` is
//! how it hands one on (systemd.scope(5), systemd's CGROUP_DELEGATION.md).
//!
//! A scope begins with a process in it, so the container's init, which waits
//! for its cgroup, is moved there by systemd rather than born there. It ends,
//! and its cgroup with it, when the last process is gone.

mod bus;
mod properties;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::devices::Policy;
use super::plan::Write;
use crate::error::{Error, Result};

pub(super) use properties::{Property, Value, of_creation, of_limits};

const SECTION: &str = "config-linux.md#cgroups-path";

/// Whose units they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cgroup) enum Manager {
    /// The host's.
    System,
    /// That of the user whose session this is.
    User,
}

/// A transient unit, as the container's state remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cgroup) struct Unit {
    /// With its suffix.
    name: String,
    slice: String,
    manager: Manager,
}

impl Unit {
    /// What `slice:prefix:name` means, as runc reads it; the slice and the prefix may be empty.
    pub(super) fn parse(words: &str, manager: Manager) -> Result<Self> {
        let refused = |why: &str| {
            Err(Error::spec("$.linux.cgroupsPath", Some(format!("{words:?}")), SECTION, why)
                .hint("write \"slice:prefix:name\", as \"machine.slice:box:1\""))
        };
        let mut parts = words.split(':');
        let (Some(slice), Some(prefix), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return refused("systemd needs a slice, a prefix and a name");
        };
        if name.is_empty() {
            return refused("it names no unit");
        }
        if !is_valid(prefix) || !is_valid(name) || name.ends_with(".slice") {
            return refused("a scope's name has letters, digits and :-_.\\ alone");
        }
        let slice = match (slice, manager) {
            ("", Manager::System) => "system.slice",
            ("", Manager::User) => "user.slice",
            (slice, _) => slice,
        };
        if expanded(slice).is_none() {
            return refused("a slice's name ends in \".slice\" and has no empty part");
        }
        let dash = if prefix.is_empty() { "" } else { "-" };
        let name = format!("{prefix}{dash}{name}.scope");
        Ok(Unit { name, slice: slice.to_owned(), manager })
    }

    /// Its cgroup's path below that of its manager.
    pub(super) fn path(&self) -> PathBuf {
        expanded(&self.slice).unwrap_or_default().join(&self.name)
    }

    /// Starts it with a process in it.
    pub(super) fn start(&self, properties: &[Property]) -> Result<()> {
        bus::start(self, properties)
    }

    /// Ends it, with whatever is in it; one that has ended is as good.
    pub(super) fn stop(&self) -> Result<()> {
        bus::stop(self)
    }

    /// Changes what systemd keeps of its limits, so that it does not write others.
    pub(super) fn set(&self, properties: &[Property]) -> Result<()> {
        if properties.is_empty() { Ok(()) } else { bus::set(self, properties) }
    }
}

/// A unit to start, and what is known of it beforehand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub(super) unit: Unit,
    /// The container's, for the unit's description.
    pub(super) id: String,
    /// Devices that may be used, where systemd would write others.
    pub(super) devices: Option<Policy>,
}

impl Order {
    /// Without the process that it starts with.
    pub(super) fn properties(&self, unified: bool, writes: &[&Write]) -> Vec<Property> {
        let mut properties = of_creation(&self.id, &self.unit.slice, unified);
        properties.extend(of_limits(writes.iter().copied()));
        properties.extend(self.devices.iter().flat_map(properties::of_devices));
        properties
    }

    pub(super) fn line(&self, unified: bool, writes: &[&Write]) -> String {
        let manager = match self.unit.manager {
            Manager::System => "",
            Manager::User => " of this user",
        };
        let properties: Vec<String> =
            self.properties(unified, writes).iter().map(ToString::to_string).collect();
        format!("ask systemd{manager} for {:?} ({})", self.unit.name, properties.join(", "))
    }
}

/// Where the cgroups of a user's manager are, from the place of a process in its session.
pub(super) fn of_user_manager(own: &Path) -> Option<PathBuf> {
    let is_manager = |path: &&Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("user@").is_some_and(|rest| rest.ends_with(".service"))
    };
    own.ancestors().find(is_manager).map(Path::to_owned)
}

/// `a-b.slice` is in `a.slice`, and says so by its name (systemd.slice(5)).
fn expanded(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice").filter(|name| is_valid(name))?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    let mut start = 0;
    let mut path = PathBuf::new();
    for end in ends {
        if start == end {
            return None;
        }
        path.push(format!("{}.slice", &name[..end]));
        start = end + 1;
    }
    Some(path)
}

/// What systemd takes in the name of a unit.
fn is_valid(name: &str) -> bool {
    name.len() < 240
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Manager, Unit, expanded, of_user_manager};

    fn path(words: &str, manager: Manager) -> Option<String> {
        let unit = Unit::parse(words, manager).ok()?;
        Some(unit.path().display().to_string())
    }

    #[test]
    fn a_path_of_three_parts_names_a_scope_in_a_slice() {
        let system = |words| path(words, Manager::System);
        assert_eq!(system("a-b.slice:runc:x").as_deref(), Some("a.slice/a-b.slice/runc-x.scope"));
        assert_eq!(system(":runc:x").as_deref(), Some("system.slice/runc-x.scope"));
        assert_eq!(path("::x", Manager::User).as_deref(), Some("user.slice/x.scope"));
        assert_eq!(system("-.slice::x").as_deref(), Some("x.scope"));
        for wrong in
            ["a:b", "a:b:c:d", "a.slice:b:", "a:b:c", "-a.slice::x", "a--b.slice::x", "::a/b"]
        {
            assert_eq!(system(wrong), None, "{wrong}");
        }
        assert_eq!(expanded(".slice"), None);
    }

    #[test]
    fn a_users_manager_is_found_from_inside_of_it() {
        let own = "user.slice/user-5.slice/user@5.service/app.slice/x.scope";
        let manager = "user.slice/user-5.slice/user@5.service";
        assert_eq!(of_user_manager(Path::new(own)), Some(PathBuf::from(manager)));
        assert_eq!(of_user_manager(Path::new("user.slice/user-5.slice/session-1.scope")), None);
    }
}
