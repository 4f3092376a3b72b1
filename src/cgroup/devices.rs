//! Which devices the container may use: rules in order, the last that matches decides.
//!
//! Version 1 keeps a default and exceptions to it; version 2 asks a program at each access.

mod program;
mod systemd;

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::hierarchies::Version;
use super::plan::{Group, Write};
use super::resources::missing;
use crate::error::{Error, Kind, Result};
use crate::sys::bpf::Instruction;

const PROPERTY: &str = "$.linux.resources.devices";
const SECTION: &str = "config-linux.md#allowed-device-list";

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// The type of a device, by the kernel's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Block = 1,
    Char = 2,
}

/// A set of devices and what is done to them; `None` is a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    of: Option<Type>,
    major: Option<i32>,
    minor: Option<i32>,
    access: u8,
}

/// What every container may use: any node may be made (not opened), and the devices that
/// config-linux.md has the runtime supply, terminals included. A container's console is one of its
/// terminals; 5:1 would be the host's.
const DEFAULTS: [Rule; 10] = [
    allowed(Type::Char, None, None, MKNOD),
    allowed(Type::Block, None, None, MKNOD),
    allowed(Type::Char, Some(1), Some(3), ALL), // null
    allowed(Type::Char, Some(1), Some(5), ALL), // zero
    allowed(Type::Char, Some(1), Some(7), ALL), // full
    allowed(Type::Char, Some(1), Some(8), ALL), // random
    allowed(Type::Char, Some(1), Some(9), ALL), // urandom
    allowed(Type::Char, Some(5), Some(0), ALL), // tty
    allowed(Type::Char, Some(5), Some(2), ALL), // ptmx
    allowed(Type::Char, Some(136), None, ALL),  // pts/*
];

const fn allowed(of: Type, major: Option<i32>, minor: Option<i32>, access: u8) -> Rule {
    Rule { allow: true, of: Some(of), major, minor, access }
}

/// Puts the rules where they are kept to.
pub(super) fn place(
    rules: &[LinuxDeviceCgroup],
    with_defaults: bool,
    groups: &mut [Group],
) -> Result<()> {
    let policy = Policy::of(rules, with_defaults)?;
    if policy.is_open() {
        return Ok(());
    }
    let keeper = keeper(groups)?;
    let group = &mut groups[keeper];
    match group.hierarchy.version {
        Version::One => group.writes.extend(policy.writes()?),
        Version::Two if policy.refuses() => group.devices = Some(policy),
        Version::Two => {}
    }
    Ok(())
}

/// The group that keeps them; the unified hierarchy, which can always, comes last.
fn keeper(groups: &[Group]) -> Result<usize> {
    let keeps = |group: &Group| group.hierarchy.version == Version::Two || group.has("devices");
    groups.iter().position(keeps).ok_or_else(|| missing("devices", PROPERTY))
}

/// How rules take the place of others.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// Version 1's: writes, those that take them back, and whether between two of them more or less
    /// is allowed than before and after.
    Rules { forth: Vec<Write>, back: Vec<Write>, at_once: bool },
    /// Version 2's program, which is exchanged in one step; none where all is allowed.
    Program(Option<Vec<Instruction>>),
}

/// Decides how a container comes from rules that hold to others, and in which group. Both have the
/// devices that every container may use.
pub(super) fn change(
    before: &[LinuxDeviceCgroup],
    after: &[LinuxDeviceCgroup],
    groups: &[Group],
) -> Result<(usize, Change)> {
    let (before, after) = (Policy::of(before, true)?, Policy::of(after, true)?);
    let keeper = keeper(groups)?;
    let change = match groups[keeper].hierarchy.version {
        Version::One => Change::Rules {
            forth: after.writes_after(&before)?,
            back: before.writes_after(&after)?,
            at_once: !after.has_the_default_of(&before),
        },
        Version::Two => Change::Program(after.refuses().then(|| after.program())),
    };
    Ok((keeper, change))
}

impl Rule {
    fn of(index: usize, rule: &LinuxDeviceCgroup) -> Result<Self> {
        let wrong = |name: &str, value: String, why: &str| {
            Error::spec(format!("{PROPERTY}[{index}].{name}"), Some(value), SECTION, why)
        };
        let number = |name: &str, value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(number) => i32::try_from(number)
                .ok()
                .filter(|number| *number >= 0)
                .map(Some)
                .ok_or_else(|| wrong(name, number.to_string(), "not a device number")),
        };
        let of = match rule.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(Type::Block),
            Some(LinuxDeviceType::C) => Some(Type::Char),
            Some(other) => return Err(wrong("type", other.as_str().into(), "not a, b or c")),
        };
        let mut access = 0;
        for letter in rule.access().as_deref().unwrap_or("rwm").chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => {
                    let value = rule.access().clone().unwrap_or_default();
                    return Err(wrong("access", value, "not made of r, w and m"));
                }
            };
        }
        let (major, minor) = (number("major", rule.major())?, number("minor", rule.minor())?);
        Ok(Rule { allow: rule.allow(), of, major, minor, access })
    }

    fn is_everything(&self) -> bool {
        (self.of, self.major, self.minor, self.access) == (None, None, None, ALL)
    }

    fn covers_devices_of(&self, other: &Rule) -> bool {
        let covers = |own: Option<i32>, of_other| own.is_none() || own == of_other;
        (self.of.is_none() || self.of == other.of)
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    /// What of it none of the others says of the very same devices.
    fn beyond(&self, others: &[Rule]) -> Option<Rule> {
        let same = |other: &&Rule| Rule { access: self.access, ..**other } == *self;
        let said = others.iter().filter(same).fold(0, |said, other| said | other.access);
        let access = self.access & !said;
        (access != 0).then_some(Rule { access, ..*self })
    }

    fn overlaps(&self, other: &Rule) -> bool {
        fn meet<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        meet(self.of, other.of)
            && meet(self.major, other.major)
            && meet(self.minor, other.minor)
            && self.access & other.access != 0
    }
}

impl Rule {
    fn letters(&self) -> String {
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let own = letters.iter().filter(|(bit, _)| self.access & bit != 0);
        own.map(|(_, letter)| *letter).collect()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.of {
            None => 'a',
            Some(Type::Block) => 'b',
            Some(Type::Char) => 'c',
        };
        let number = |number: Option<i32>| number.map_or("*".to_owned(), |it| it.to_string());
        write!(f, "{of} {}:{} {}", number(self.major), number(self.minor), self.letters())
    }
}

/// The rules, without those that a later one for everything overrides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy {
    /// What a rule for everything said, if there is one.
    everything: Option<bool>,
    rules: Vec<Rule>,
}

impl Policy {
    pub(super) fn of(rules: &[LinuxDeviceCgroup], with_defaults: bool) -> Result<Self> {
        let mut policy = Policy { everything: None, rules: Vec::new() };
        for (index, rule) in rules.iter().enumerate() {
            let rule = Rule::of(index, rule)?;
            if rule.is_everything() {
                policy.everything = Some(rule.allow);
                policy.rules.clear();
            } else if rule.access != 0 {
                policy.rules.push(rule);
            }
        }
        if with_defaults {
            policy.rules.extend(DEFAULTS);
        }
        Ok(policy)
    }

    /// A new cgroup allows what its parent does; only an explicit rule can say otherwise.
    fn by_default(&self) -> bool {
        self.everything.unwrap_or(true)
    }

    fn refuses(&self) -> bool {
        !self.by_default() || self.rules.iter().any(|rule| !rule.allow)
    }

    fn is_open(&self) -> bool {
        self.everything.is_none() && !self.refuses()
    }

    /// Whether both name the same default; one that names none has its parent's exceptions too.
    fn has_the_default_of(&self, other: &Policy) -> bool {
        let known = self.everything.is_some() && other.everything.is_some();
        known && self.everything == other.everything
    }

    /// Version 1's writes where other rules hold. Those that say the same are not touched: for the
    /// container there is no moment without them. The kernel takes another default only from who has
    /// no cgroups inside.
    fn writes_after(&self, before: &Policy) -> Result<Vec<Write>> {
        if !self.has_the_default_of(before) {
            let everything = self.everything.is_none();
            let reset = everything.then(|| Write::new("devices.allow", "a", PROPERTY));
            return Ok(reset.into_iter().chain(self.writes()?).collect());
        }
        let file = |allow| if allow { "devices.allow" } else { "devices.deny" };
        let by_default = self.by_default();
        let (old, new) = (before.exceptions()?, self.exceptions()?);
        let gone = old.iter().filter_map(|rule| rule.beyond(&new));
        let gone = gone.map(|rule| Write::new(file(by_default), rule, PROPERTY));
        let added = new.iter().filter_map(|rule| rule.beyond(&old));
        let added = added.map(|rule| Write::new(file(!by_default), rule, PROPERTY));
        Ok(gone.chain(added).collect())
    }

    /// Version 1's writes: everything, then the exceptions to it.
    fn writes(&self) -> Result<Vec<Write>> {
        let file = |allow| if allow { "devices.allow" } else { "devices.deny" };
        let by_default = self.by_default();
        let everything = self.everything.map(|allow| Write::new(file(allow), "a", PROPERTY));
        let exceptions = self.exceptions()?;
        let exceptions =
            exceptions.iter().map(|rule| Write::new(file(!by_default), rule, PROPERTY));
        Ok(everything.into_iter().chain(exceptions).collect())
    }

    /// The rules as version 1 can keep them: none of them overlaps another of the other kind.
    ///
    /// The kernel takes a rule that cuts a hole into a wider exception and then does nothing, so
    /// that a device that the config denies would be open.
    fn exceptions(&self) -> Result<Vec<Rule>> {
        let mut exceptions: Vec<Rule> = Vec::new();
        for rule in self.rules.iter().flat_map(by_type) {
            if rule.allow != self.by_default() {
                match exceptions
                    .iter_mut()
                    .find(|other| Rule { access: rule.access, ..**other } == rule)
                {
                    Some(same) => same.access |= rule.access,
                    None => exceptions.push(rule),
                }
                continue;
            }
            for exception in exceptions.iter_mut().filter(|other| rule.overlaps(other)) {
                if !rule.covers_devices_of(exception) {
                    return Err(hole(&rule, exception));
                }
                exception.access &= !rule.access;
            }
            exceptions.retain(|exception| exception.access != 0);
        }
        Ok(exceptions)
    }
}

/// Version 1 ignores the rest of a rule for all types, so that it is said of each.
fn by_type(rule: &Rule) -> Vec<Rule> {
    match rule.of {
        Some(_) => vec![*rule],
        None => [Type::Char, Type::Block].map(|of| Rule { of: Some(of), ..*rule }).to_vec(),
    }
}

fn hole(rule: &Rule, exception: &Rule) -> Error {
    let verb = |allow| if allow { "allow" } else { "deny" };
    let (what, whole) = (verb(rule.allow), verb(exception.allow));
    let message = format!(
        "cgroup version 1 cannot {what} {rule} after a rule to {whole} more than that: {exception}"
    );
    Error::new(Kind::Spec, message)
        .asked_by(PROPERTY)
        .hint("list the devices one by one, or use a host with cgroup version 2")
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |allow| if allow { "allow" } else { "deny" };
        write!(f, "{} all", verb(self.by_default()))?;
        self.rules.iter().try_for_each(|rule| write!(f, "; {} {rule}", verb(rule.allow)))
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
