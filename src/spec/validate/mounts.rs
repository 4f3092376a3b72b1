//! `mounts`.

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::{Warnings, fault, has_namespace, missing, namespaces, no_nul, no_nul_each};
use crate::Result;

pub(super) fn validate(spec: &Spec, warnings: &mut Warnings) -> Result<()> {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        paths(index, mount, warnings)?;
        id_mappings(index, mount, spec, warnings)?;
        owners(index, mount, spec)?;
    }
    Ok(())
}

fn option(mount: &Mount, names: &[&str]) -> bool {
    mount.options().iter().flatten().any(|option| names.contains(&option.as_str()))
}

fn paths(index: usize, mount: &Mount, warnings: &mut Warnings) -> Result<()> {
    let destination = mount.destination();
    let path = format_args!("$.mounts[{index}].destination");
    if destination.as_os_str().is_empty() {
        return Err(missing(path));
    }
    no_nul(path, &destination.to_string_lossy())?;
    if destination.is_relative() {
        let message =
            format!("{destination:?} is relative, and is taken from the container's root");
        warnings.add(path, message);
    }
    let source = mount.source().as_ref().filter(|source| !source.as_os_str().is_empty());
    let path = format_args!("$.mounts[{index}].source");
    match source {
        Some(source) => no_nul(path, &source.to_string_lossy())?,
        None if option(mount, &["bind", "rbind"]) && !option(mount, &["remount"]) => {
            return Err(missing(path).hint("a bind mount has to say what to bind"));
        }
        None => {}
    }
    if let Some(kind) = mount.typ() {
        no_nul(format_args!("$.mounts[{index}].type"), kind)?;
    }
    no_nul_each(format_args!("$.mounts[{index}].options"), mount.options().as_deref())
}

fn id_mappings(index: usize, mount: &Mount, spec: &Spec, warnings: &mut Warnings) -> Result<()> {
    let uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let gids = mount.gid_mappings().as_deref().unwrap_or_default();
    let lists =
        [("uidMappings", uids, "gidMappings", gids), ("gidMappings", gids, "uidMappings", uids)];
    for (name, list, other_name, other) in lists {
        let path = format!("$.mounts[{index}].{name}");
        if other.is_empty() && !list.is_empty() {
            return Err(fault(path, list, format!("must come along with {other_name}")));
        }
        namespaces::ranges(&path, list)?;
    }
    let asked = option(mount, &["idmap", "ridmap"]);
    if uids.is_empty() && !asked {
        return Ok(());
    }
    let bind = option(mount, &["bind", "rbind"]) || mount.typ().as_deref() == Some("bind");
    if !bind {
        let path = format_args!("$.mounts[{index}].options");
        let message = "id mappings are only possible for bind mounts";
        return Err(fault(path, mount.options(), message).hint("add \"bind\" or \"rbind\""));
    }
    if option(mount, &["remount"]) {
        let path = format_args!("$.mounts[{index}].options");
        let message = "the ids of what is mounted cannot be mapped any more";
        return Err(fault(path, mount.options(), message)
            .hint("map them in the entry that mounts it, and leave \"remount\" out"));
    }
    if !asked {
        let message = "without the option idmap or ridmap, older runtimes ignore it";
        warnings.add(format_args!("$.mounts[{index}].uidMappings"), message);
    }
    if uids.is_empty() && !has_namespace(spec, LinuxNamespaceType::User) {
        let path = format_args!("$.mounts[{index}].options");
        let message = "an id-mapped mount needs uidMappings and gidMappings, or a user namespace";
        return Err(fault(path, mount.options(), message));
    }
    Ok(())
}

/// The kernel gives files of a new file system to no one whom the user namespace does not have.
fn owners(index: usize, mount: &Mount, spec: &Spec) -> Result<()> {
    let takes_owner = matches!(mount.typ().as_deref(), Some("devpts" | "proc" | "tmpfs"));
    let Some(linux) = spec.linux().as_ref().filter(|_| takes_owner) else { return Ok(()) };
    for (number, option) in mount.options().iter().flatten().enumerate() {
        let Some((key @ ("uid" | "gid"), id)) = option.split_once('=') else { continue };
        let Ok(id) = id.parse() else { continue };
        let path = format_args!("$.mounts[{index}].options[{number}]");
        namespaces::in_new_user_namespace(path, key, id, linux)?;
    }
    Ok(())
}
