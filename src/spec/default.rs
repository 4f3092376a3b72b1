//! The config to start from, as `runc spec` writes it.

use std::path::Path;

use serde_json::{Map, Value, json};

/// What of the host goes into a default config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// The effective user id, mapped to the container's root when rootless.
    pub uid: u32,
    /// The effective group id, mapped to the container's root when rootless.
    pub gid: u32,
    /// Whether the host has the unified cgroup hierarchy, version 2, alone.
    pub unified_cgroups: bool,
}

impl Host {
    /// The host that this process runs on.
    pub fn here() -> Self {
        Host {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            unified_cgroups: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        }
    }
}

/// The default config for this host.
pub fn default_spec(rootless: bool) -> Value {
    default_spec_for(rootless, Host::here())
}

/// The default config for a host.
pub fn default_spec_for(rootless: bool, host: Host) -> Value {
    json!({
        "ociVersion": super::NEWEST_VERSION,
        "process": process(),
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "rscontainer",
        "mounts": mounts(rootless),
        "linux": linux(rootless, host),
    })
}

fn process() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "terminal": true,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
        ],
        "cwd": "/",
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": true,
    })
}

fn mounts(rootless: bool) -> Value {
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    // A sole user has no group 5 (tty) to give its terminals to, and may not
    // mount a sysfs that belongs to the host's network namespace.
    let sys = if rootless {
        mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
    } else {
        pts.push("gid=5");
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    };
    let closed = ["nosuid", "noexec", "nodev"];
    let [nosuid, noexec, nodev] = closed;
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        mount("/dev", "tmpfs", "tmpfs", &[nosuid, "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &[nosuid, noexec, nodev, "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &closed),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[nosuid, noexec, nodev, "relatime", "ro"]),
    ])
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

fn linux(rootless: bool, host: Host) -> Value {
    let mut linux = Map::new();
    if rootless {
        let own = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        linux.insert("uidMappings".to_owned(), own(host.uid));
        linux.insert("gidMappings".to_owned(), own(host.gid));
    } else {
        let denied = json!({"devices": [{"allow": false, "access": "rwm"}]});
        linux.insert("resources".to_owned(), denied);
    }
    linux.insert("namespaces".to_owned(), namespaces(rootless, host));
    linux.insert(
        "maskedPaths".to_owned(),
        json!([
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/firmware",
            "/proc/scsi",
        ]),
    );
    linux.insert(
        "readonlyPaths".to_owned(),
        json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",]),
    );
    Value::Object(linux)
}

fn namespaces(rootless: bool, host: Host) -> Value {
    let mut kinds = vec!["pid"];
    // A rootless config keeps the host's network: there is no one to configure another.
    kinds.extend((!rootless).then_some("network"));
    kinds.extend(["ipc", "uts", "mount"]);
    kinds.extend(host.unified_cgroups.then_some("cgroup"));
    kinds.extend(rootless.then_some("user"));
    kinds.into_iter().map(|kind| json!({"type": kind})).collect()
}
