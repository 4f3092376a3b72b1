//! `linux.sysctl`: only what belongs to a namespace of the container's own.

use oci_spec::runtime::{Linux, LinuxNamespaceType as Kind};

use super::{fault, namespaces, no_nul};
use crate::spec::parse::join;
use crate::{Error, Result};

/// The file under `/proc/sys` that a sysctl's name stands for.
///
/// Whichever of `.` and `/` comes first separates the parts, and the other is
/// part of a name: `net.ipv4.conf.eth0/1.mtu` and `net/ipv4/conf/eth0.1/mtu`
/// are the same file.
pub fn sysctl_path(name: &str) -> String {
    let dotted = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'.');
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    if dotted { name.chars().map(swapped).collect() } else { name.to_owned() }
}

pub(super) fn validate(linux: &Linux) -> Result<()> {
    let Some(sysctls) = linux.sysctl() else { return Ok(()) };
    let mut names: Vec<&String> = sysctls.keys().collect();
    // Of several faults the same one is named each time.
    names.sort_unstable();
    for name in names {
        let value = &sysctls[name];
        let path = join("$.linux.sysctl", name);
        no_nul(&path, value)?;
        one(linux, name).map_err(|(message, hint)| {
            let error: Error = fault(path, value, message);
            hint.into_iter().fold(error, Error::hint)
        })?;
    }
    Ok(())
}

type Fault = (&'static str, Option<String>);

fn one(linux: &Linux, name: &str) -> std::result::Result<(), Fault> {
    let file = sysctl_path(name);
    let odd = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if file.split('/').any(odd) {
        return Err(("the key must be the name of a sysctl, such as net.core.somaxconn", None));
    }
    let (kind, word) = match owner(&file) {
        Some(owner) => owner,
        None => return Err(("belongs to no namespace and would change the host", None)),
    };
    if namespaces::find(linux, kind).is_none() {
        let hint = format!("add {{\"type\": \"{word}\"}} to $.linux.namespaces");
        return Err(("belongs to a namespace that is the host's", Some(hint)));
    }
    if file == "kernel/hostname" {
        return Err(("conflicts with the property for it", Some("set $.hostname".to_owned())));
    }
    Ok(())
}

/// The kind of namespace that a file under `/proc/sys` belongs to.
fn owner(file: &str) -> Option<(Kind, &'static str)> {
    match file {
        "kernel/msgmax"
        | "kernel/msgmnb"
        | "kernel/msgmni"
        | "kernel/sem"
        | "kernel/shmall"
        | "kernel/shmmax"
        | "kernel/shmmni"
        | "kernel/shm_rmid_forced" => Some((Kind::Ipc, "ipc")),
        "kernel/domainname" | "kernel/hostname" => Some((Kind::Uts, "uts")),
        _ if file.starts_with("fs/mqueue/") => Some((Kind::Ipc, "ipc")),
        _ if file.starts_with("net/") => Some((Kind::Network, "network")),
        _ if file.starts_with("user/max_") => Some((Kind::User, "user")),
        _ => None,
    }
}
