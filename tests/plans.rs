//! Plans compared with what they are known to be, on hosts that are only described.
//!
//! `tests/plans/NAME.json` says which host, which config to start from and how that is changed
//! (a JSON merge patch); `NAME.txt` is the plan. `UPDATE_GOLDEN=1` writes those anew.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use oci_spec::runtime::Arch;
use rscontainer::cgroup::Hierarchies;
use rscontainer::plan::seccomp::Support;
use rscontainer::plan::step::StartSignal;
use rscontainer::plan::{Facts, Plan, SecurityModules, Situation};
use rscontainer::spec::{self, Host};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Why this one is worth a file.
    about: String,
    host: String,
    base: String,
    #[serde(default)]
    change: Value,
    /// Compile the entry of this process into the container, not the container.
    exec: Option<Value>,
    /// The program waits for `start`.
    #[serde(default)]
    created: bool,
    /// Security modules that the host has enabled.
    #[serde(default)]
    modules: Vec<String>,
    /// Where resctrl is mounted on the host.
    resctrl: Option<PathBuf>,
    /// The plan is refused with these words.
    refused: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

fn hierarchies(host: &str) -> Hierarchies {
    let text = |name: &str| {
        let path = folder().join("hosts").join(host).join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    };
    Hierarchies::parse(&text("mountinfo"), &text("cgroup"))
        .with_unified_controllers("cpuset cpu io memory hugetlb pids rdma misc")
}

/// `root@…` has all capabilities, `user@…` is an ordinary user.
fn facts(case: &Case) -> Facts {
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

fn compiled(case: Case) -> String {
    let facts = facts(&case);
    let mut config = base(&case.base, facts.hierarchies.v1().next().is_none());
    if !case.change.is_null() {
        merge(&mut config, case.change);
    }
    let (spec, warnings) = spec::check(config.to_string().as_bytes()).unwrap();
    let start = if case.created { StartSignal::Socket } else { StartSignal::Parent };
    let situation = Situation {
        id: "box".into(),
        bundle: "/bundle".into(),
        start,
        keep_descriptors: 0,
        setgroups: None,
        session_keyring: true,
        pivot: true,
    };
    let plan = match case.exec {
        None => Plan::compile(&spec, &facts, &situation),
        Some(process) => {
            let process = serde_json::from_value(process).unwrap();
            Plan::compile_exec(&spec, &process, &facts, &situation)
        }
    };
    let warnings: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    match (plan, case.refused) {
        (Ok(plan), None) => format!("{warnings}{plan}"),
        (Err(error), Some(words)) if error.to_string().contains(&words) => format!("{error}\n"),
        (Ok(_), Some(words)) => panic!("not refused: {words}"),
        (Err(error), _) => panic!("{error}"),
    }
}

#[test]
fn plans_are_what_they_were() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 12, "{} cases in {:?}", cases.len(), folder());
    let mut wrong = Vec::new();
    for path in cases {
        let case: Case = serde_json::from_slice(&std::fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let about = case.about.clone();
        let printed = format!("# {about}\n{}", compiled(case));
        let golden = path.with_extension("txt");
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if printed == expected {
            continue;
        }
        if update {
            std::fs::write(&golden, printed).unwrap();
        } else {
            wrong.push(format!("{}:\n{}", golden.display(), difference(&expected, &printed)));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 writes them anew\n{}", wrong.join("\n"));
}

/// The lines that only one of the two has, and where the first is.
fn difference(expected: &str, printed: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), printed.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    let lines: Vec<String> = gone.chain(come).collect();
    format!("first difference in line {}\n{}", same + 1, lines.join("\n"))
}
