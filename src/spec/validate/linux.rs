//! `linux`: paths, devices and the other properties that stand alone.

use std::path::Component;

use oci_spec::runtime::{
    Linux, LinuxDeviceType, LinuxIntelRdt, LinuxMemoryPolicy, MemoryPolicyModeType as Mode,
};

use super::{MOST_NODES, Warnings, absolute, fault, list, missing, no_nul};
use crate::Result;

pub(super) fn validate(linux: &Linux, warnings: &mut Warnings) -> Result<()> {
    paths(linux)?;
    cgroups_path(linux)?;
    devices(linux, warnings)?;
    propagation(linux)?;
    if let Some(label) = linux.mount_label() {
        no_nul("$.linux.mountLabel", label)?;
    }
    if let Some(rdt) = linux.intel_rdt() {
        intel_rdt(rdt)?;
    }
    if let Some(policy) = linux.memory_policy() {
        memory_policy(policy)?;
    }
    let flags = linux.personality().as_ref().and_then(|personality| personality.flags().as_ref());
    if flags.is_some_and(|flags| !flags.is_empty()) {
        warnings.add("$.linux.personality.flags", "no flag is supported, and none is set");
    }
    Ok(())
}

fn paths(linux: &Linux) -> Result<()> {
    for (name, list) in
        [("maskedPaths", linux.masked_paths()), ("readonlyPaths", linux.readonly_paths())]
    {
        for (index, path) in list.iter().flatten().enumerate() {
            let at = format_args!("$.linux.{name}[{index}]");
            if path.is_empty() {
                return Err(fault(at, path, "must be an absolute path"));
            }
            // A relative one is taken from the root, where it can only hide more: what any runtime
            // makes of it, so that there are configs that rely on it.
            no_nul(at, path)?;
        }
    }
    Ok(())
}

fn cgroups_path(linux: &Linux) -> Result<()> {
    const PATH: &str = "$.linux.cgroupsPath";
    let Some(path) = linux.cgroups_path() else { return Ok(()) };
    no_nul(PATH, &path.to_string_lossy())?;
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(fault(PATH, path, "must not contain \"..\", which would leave the hierarchy"));
    }
    Ok(())
}

fn devices(linux: &Linux, warnings: &mut Warnings) -> Result<()> {
    let devices = linux.devices().as_deref().unwrap_or_default();
    for (index, device) in devices.iter().enumerate() {
        let path = format_args!("$.linux.devices[{index}]");
        if device.path().as_os_str().is_empty() {
            return Err(missing(format_args!("{path}.path")));
        }
        absolute(format_args!("{path}.path"), device.path())?;
        match device.typ() {
            LinuxDeviceType::A => {
                let message = "must be c, b, u or p; \"a\" stands for all devices in a rule";
                return Err(fault(format_args!("{path}.type"), device.typ(), message));
            }
            LinuxDeviceType::P => continue,
            LinuxDeviceType::B | LinuxDeviceType::C | LinuxDeviceType::U => {}
        }
        // The widths of the kernel's dev_t.
        for (name, number, most) in
            [("major", device.major(), (1 << 12) - 1), ("minor", device.minor(), (1 << 20) - 1)]
        {
            if !(0..=most).contains(&number) {
                let message = format!("must be between 0 and {most}");
                return Err(fault(format_args!("{path}.{name}"), number, message));
            }
        }
        let same = |earlier: &&oci_spec::runtime::LinuxDevice| {
            (earlier.typ(), earlier.major(), earlier.minor())
                == (device.typ(), device.major(), device.minor())
        };
        if let Some(earlier) = devices[..index].iter().find(same) {
            warnings.add(path, format!("is the same device as {}", earlier.path().display()));
        }
    }
    Ok(())
}

fn propagation(linux: &Linux) -> Result<()> {
    const KNOWN: [&str; 9] = [
        "",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "private",
        "rprivate",
        "unbindable",
        "runbindable",
    ];
    match linux.rootfs_propagation() {
        Some(value) if !KNOWN.contains(&value.as_str()) => {
            let message = format!("must be one of {}", KNOWN[1..].join(", "));
            Err(fault("$.linux.rootfsPropagation", value, message))
        }
        _ => Ok(()),
    }
}

fn intel_rdt(rdt: &LinuxIntelRdt) -> Result<()> {
    // It names a folder of resctrl; a slash alone is the folder of all.
    if let Some(id) = rdt.clos_id().as_deref().filter(|id| *id != "/") {
        if id == "." || id == ".." || id.contains('/') {
            return Err(fault("$.linux.intelRdt.closID", id, "must be the name of a folder, or /"));
        }
        no_nul("$.linux.intelRdt.closID", id)?;
    }
    for (index, line) in rdt.schemata().iter().flatten().enumerate() {
        if line.contains('\n') {
            let path = format_args!("$.linux.intelRdt.schemata[{index}]");
            return Err(fault(path, line, "must be one line"));
        }
    }
    match rdt.mem_bw_schema() {
        Some(schema) if !schema.starts_with("MB:") || schema.contains('\n') => {
            let message = "must be one line that starts with \"MB:\"";
            Err(fault("$.linux.intelRdt.memBwSchema", schema, message))
        }
        _ => Ok(()),
    }
}

fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<()> {
    let nodes = policy.nodes().as_deref().unwrap_or_default();
    let path = "$.linux.memoryPolicy.nodes";
    match policy.mode() {
        Mode::MpolDefault | Mode::MpolLocal if !nodes.is_empty() => {
            Err(fault(path, nodes, format!("must be empty with the mode {}", policy.mode())))
        }
        Mode::MpolBind
        | Mode::MpolInterleave
        | Mode::MpolWeightedInterleave
        | Mode::MpolPreferredMany
            if nodes.is_empty() =>
        {
            Err(fault(path, nodes, format!("must not be empty with the mode {}", policy.mode())))
        }
        _ => list(path, nodes, MOST_NODES),
    }
}
