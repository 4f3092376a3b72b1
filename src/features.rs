//! What this version understands, as features.md and features-linux.md want it told.
//!
//! The same on every host: what a host lacks is no matter here. No list is written down twice: each
//! comes from what reads the config.

use caps::Capability;
use oci_spec::runtime::{
    Arch, Hooks, LinuxNamespaceType, LinuxSeccompAction, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, MemoryPolicyFlagType, MemoryPolicyModeType,
};
use serde_json::{Value, json};

use crate::plan::option_names;
use crate::spec::{NEWEST_VERSION, OLDEST_VERSION, names};

/// The features structure.
pub fn features() -> Value {
    json!({
        "ociVersionMin": OLDEST_VERSION,
        "ociVersionMax": NEWEST_VERSION,
        "hooks": names::<Hooks>(),
        "mountOptions": option_names(),
        "linux": {
            "namespaces": sorted(names::<LinuxNamespaceType>()),
            "capabilities": capabilities(),
            "cgroup": {
                "v1": true,
                "v2": true,
                "systemd": true,
                "systemdUser": true,
                "rdma": true,
            },
            "seccomp": seccomp(),
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {
                "modes": names::<MemoryPolicyModeType>(),
                "flags": names::<MemoryPolicyFlagType>(),
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {"rscontainer.version": env!("CARGO_PKG_VERSION")},
        // No annotation changes what is done.
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

fn seccomp() -> Value {
    // The crate's word for the host's own, which no config of the specification can name.
    let architectures = names::<Arch>().iter().filter(|name| **name != "SCMP_ARCH_NATIVE");
    let flags = names::<LinuxSeccompFilterFlag>();
    json!({
        "enabled": true,
        "actions": sorted(names::<LinuxSeccompAction>()),
        "operators": sorted(names::<LinuxSeccompOperator>()),
        "archs": sorted(architectures),
        "knownFlags": flags,
        "supportedFlags": flags,
    })
}

/// By number, as in capabilities(7); the ones that plans can grant.
fn capabilities() -> Vec<String> {
    let mut all: Vec<Capability> = caps::all().into_iter().collect();
    all.sort_by_key(Capability::index);
    all.iter().map(ToString::to_string).collect()
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a &'static str>) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = names.into_iter().copied().collect();
    names.sort_unstable();
    names
}
