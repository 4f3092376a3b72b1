//! The hosts and configs of `tests/plans/*.json`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test that takes this uses a part of it"
)]

use std::path::{Path, PathBuf};

use oci_spec::runtime::Arch;
use rscontainer::cgroup::Hierarchies;
use rscontainer::plan::seccomp::Support;
use rscontainer::plan::{Facts, SecurityModules};
use rscontainer::spec::{self, Host};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Why this one is worth a file.
    pub about: String,
    pub host: String,
    pub base: String,
    #[serde(default)]
    pub change: Value,
    /// Compile the entry of this process into the container, not the container.
    pub exec: Option<Value>,
    /// The program waits for `start`.
    #[serde(default)]
    pub created: bool,
    /// Security modules that the host has enabled.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Where resctrl is mounted on the host.
    pub resctrl: Option<PathBuf>,
    /// The plan is refused with these words.
    pub refused: Option<String>,
}

/// Where they are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

/// The files of all of them, in order.
pub fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(files.len() >= 12, "{} cases in {:?}", files.len(), folder());
    files
}

/// One of them.
pub fn read(path: &Path) -> Case {
    serde_json::from_slice(&std::fs::read(path).unwrap())
        .unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// A host by what its /proc says.
pub fn hierarchies(host: &str) -> Hierarchies {
    macro_rules! texts {
        ($name:literal) => {
            (
                include_str!(concat!("../plans/hosts/", $name, "/mountinfo")),
                include_str!(concat!("../plans/hosts/", $name, "/cgroup")),
            )
        };
    }
    let (mountinfo, cgroup) = match host {
        "hybrid" => texts!("hybrid"),
        "legacy" => texts!("legacy"),
        "unified" => texts!("unified"),
        other => panic!("no host {other:?}"),
    };
    Hierarchies::parse(mountinfo, cgroup)
        .with_unified_controllers("cpuset cpu io memory hugetlb pids rdma misc")
}

/// `root@…` has all capabilities, `user@…` is an ordinary user.
pub fn facts(case: &Case) -> Facts {
    let (who, host) = case.host.split_once('@').unwrap();
    let rootless = who == "user";
    let capabilities = if rootless { 0 } else { (1 << 41) - 1 };
    let has = |module: &str| case.modules.iter().any(|enabled| enabled == module);
    let modules = SecurityModules { apparmor: has("apparmor"), selinux: has("selinux") };
    let (uid, gid) = if rootless { (1000, 1000) } else { (0, 0) };
    Facts {
        hierarchies: hierarchies(host),
        rootless,
        uid,
        gid,
        setgroups: true,
        capabilities,
        modules,
        resctrl: case.resctrl.clone(),
        seccomp: Support { native: Some(Arch::ScmpArchX86_64), ..Support::full() },
    }
}

fn base(name: &str, unified_cgroups: bool) -> Value {
    let host = Host { uid: 1000, gid: 1000, unified_cgroups };
    match name {
        "default" => spec::default_spec_for(false, host),
        "rootless" => spec::default_spec_for(true, host),
        "walkthrough" => {
            let path = folder().join("../bundles/busybox/config.json");
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        }
        "bare" => serde_json::json!({
            "ociVersion": "1.3.0",
            "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"},
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
        }),
        other => panic!("no base {other:?}"),
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// The config of a case, which may yet be refused.
pub fn config(case: &Case, facts: &Facts) -> Value {
    let mut config = base(&case.base, facts.hierarchies.v1().next().is_none());
    if !case.change.is_null() {
        merge(&mut config, case.change.clone());
    }
    config
}
