//! `linux.namespaces`, and what is tied to one: id mappings, clock offsets, devices of the network.

use std::fmt::Display;

use oci_spec::runtime::{
    Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType as Kind, LinuxNetDevice, Spec, User,
};

use super::{absolute, fault};
use crate::Result;
use crate::spec::parse::join;

pub(super) fn find(linux: &Linux, kind: Kind) -> Option<&LinuxNamespace> {
    linux.namespaces().iter().flatten().find(|namespace| namespace.typ() == kind)
}

pub(super) fn validate(spec: &Spec, linux: &Linux) -> Result<()> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for (index, namespace) in namespaces.iter().enumerate() {
        if namespaces[..index].iter().any(|earlier| earlier.typ() == namespace.typ()) {
            let path = format_args!("$.linux.namespaces[{index}].type");
            return Err(fault(path, namespace.typ(), "must not be there twice"));
        }
        // Other runtimes take an empty path as none, and so do the configs made for them.
        if let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            absolute(format_args!("$.linux.namespaces[{index}].path"), path)?;
        }
    }
    user(linux)?;
    if let Some(process) = spec.process() {
        process_ids(process.user(), linux)?;
    }
    time(linux)?;
    network(linux)
}

fn joined(namespace: &LinuxNamespace) -> bool {
    namespace.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty())
}

fn user(linux: &Linux) -> Result<()> {
    let lists = [
        ("$.linux.uidMappings", linux.uid_mappings().as_deref().unwrap_or_default()),
        ("$.linux.gidMappings", linux.gid_mappings().as_deref().unwrap_or_default()),
    ];
    let namespace = find(linux, Kind::User);
    for (path, mappings) in lists {
        if namespace.is_none() && !mappings.is_empty() {
            return Err(fault(path, mappings, "needs a user namespace")
                .hint("add {\"type\": \"user\"} to $.linux.namespaces"));
        }
        ranges(path, mappings)?;
    }
    let unmapped = lists.iter().all(|(_, mappings)| mappings.is_empty());
    match namespace {
        Some(namespace) if unmapped && !joined(namespace) => {
            let message = "a new user namespace needs $.linux.uidMappings and $.linux.gidMappings";
            Err(fault("$.linux.namespaces", namespace, message))
        }
        _ => Ok(()),
    }
}

fn process_ids(user: &User, linux: &Linux) -> Result<()> {
    in_new_user_namespace("$.process.user.uid", "uid", user.uid(), linux)?;
    in_new_user_namespace("$.process.user.gid", "gid", user.gid(), linux)?;
    for (index, &gid) in user.additional_gids().iter().flatten().enumerate() {
        let path = format_args!("$.process.user.additionalGids[{index}]");
        in_new_user_namespace(path, "gid", gid, linux)?;
    }
    Ok(())
}

/// A new user namespace knows no other ids than those mapped into it; `kind` is `uid` or `gid`.
pub(super) fn in_new_user_namespace(
    path: impl Display,
    kind: &str,
    id: u32,
    linux: &Linux,
) -> Result<()> {
    match find(linux, Kind::User) {
        // One that is joined has its mappings already.
        Some(namespace) if !joined(namespace) => {}
        _ => return Ok(()),
    }
    let (mappings, name) = match kind {
        "uid" => (linux.uid_mappings(), "uidMappings"),
        _ => (linux.gid_mappings(), "gidMappings"),
    };
    match mappings.as_deref() {
        Some(mappings) if !mappings.is_empty() => mapped(path, id, mappings, name),
        // That they are missing is told of elsewhere.
        _ => Ok(()),
    }
}

fn mapped(path: impl Display, id: u32, mappings: &[LinuxIdMapping], name: &str) -> Result<()> {
    let covers = |mapping: &LinuxIdMapping| {
        id.checked_sub(mapping.container_id()).is_some_and(|offset| offset < mapping.size())
    };
    if mappings.iter().any(covers) {
        return Ok(());
    }
    Err(fault(path, id, "does not exist in the user namespace")
        .hint(format!("add it to $.linux.{name}")))
}

/// The kernel takes no more lines than this in one `uid_map`.
const MOST_RANGES: usize = 340;

/// Checks that ranges of ids are some, end before the last id, and do not overlap on either side.
pub(super) fn ranges(path: &str, mappings: &[LinuxIdMapping]) -> Result<()> {
    if mappings.len() > MOST_RANGES {
        return Err(fault(
            path,
            mappings.len(),
            format!("must not have more than {MOST_RANGES} entries"),
        ));
    }
    for (index, mapping) in mappings.iter().enumerate() {
        let path = format_args!("{path}[{index}]");
        if mapping.size() == 0 {
            return Err(fault(format_args!("{path}.size"), 0, "must be greater than zero"));
        }
        let ends = [mapping.container_id(), mapping.host_id()];
        // 2³²−1 is no id: it stands for "leave as it is" in setresuid(2) and its kin.
        if ends.iter().any(|start| start.checked_add(mapping.size()).is_none()) {
            return Err(fault(path, mapping, "must not reach beyond the id 4294967294"));
        }
        for earlier in &mappings[..index] {
            let sides = [
                ("container", earlier.container_id(), mapping.container_id()),
                ("host", earlier.host_id(), mapping.host_id()),
            ];
            for (side, one, other) in sides {
                if overlap((one, earlier.size()), (other, mapping.size())) {
                    let message = format!("must not overlap an earlier range of {side} ids");
                    return Err(fault(path, mapping, message));
                }
            }
        }
    }
    Ok(())
}

fn overlap(one: (u32, u32), other: (u32, u32)) -> bool {
    let end = |(start, size): (u32, u32)| u64::from(start) + u64::from(size);
    u64::from(one.0) < end(other) && u64::from(other.0) < end(one)
}

fn time(linux: &Linux) -> Result<()> {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) else {
        return Ok(());
    };
    let path = "$.linux.timeOffsets";
    match find(linux, Kind::Time) {
        None => {
            return Err(fault(path, offsets, "needs a time namespace")
                .hint("add {\"type\": \"time\"} to $.linux.namespaces"));
        }
        Some(namespace) if joined(namespace) => {
            return Err(fault(path, offsets, "cannot change a time namespace that is joined"));
        }
        Some(_) => {}
    }
    for (clock, offset) in offsets {
        let path = join(path, clock);
        if !matches!(clock.as_str(), "boottime" | "monotonic") {
            return Err(fault(path, offset, "the clock must be boottime or monotonic"));
        }
        if let Some(nanosecs) = offset.nanosecs().filter(|&nanosecs| nanosecs > 999_999_999) {
            return Err(fault(join(&path, "nanosecs"), nanosecs, "must be less than a second"));
        }
    }
    Ok(())
}

fn network(linux: &Linux) -> Result<()> {
    let Some(devices) = linux.net_devices().as_ref().filter(|devices| !devices.is_empty()) else {
        return Ok(());
    };
    let path = "$.linux.netDevices";
    if find(linux, Kind::Network).is_none() {
        return Err(fault(path, devices, "needs a network namespace to move to")
            .hint("add {\"type\": \"network\"} to $.linux.namespaces"));
    }
    // The order of an object is none: the same of two devices is always the one to be named.
    let mut sorted: Vec<(&String, &LinuxNetDevice)> = devices.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut taken = Vec::new();
    for (name, device) in sorted {
        let path = join(path, name);
        if !is_interface(name) || name.contains('%') {
            return Err(fault(path, name, "the key must be the name of a network device"));
        }
        let new = device.name().as_deref().filter(|new| !new.is_empty());
        if let Some(new) = new.filter(|new| !is_interface(new)) {
            let message = "must be a device's name: at most 15 bytes, no space, slash or colon";
            return Err(fault(join(&path, "name"), new, message));
        }
        let new = new.unwrap_or(name);
        if new.contains('%') {
            if new.matches('%').count() > 1 || !new.contains("%d") {
                let message = "must have no percent sign but one in %d, which stands for a number";
                return Err(fault(join(&path, "name"), new, message));
            }
        } else if taken.contains(&new) {
            return Err(fault(join(&path, "name"), new, "must not be another device's name too"));
        }
        taken.push(new);
    }
    Ok(())
}

/// The kernel's rule, `dev_valid_name`.
fn is_interface(name: &str) -> bool {
    let forbidden = |c: char| c == '/' || c == ':' || c == '\0' || c.is_ascii_whitespace();
    (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(forbidden)
}
