//! On this host's own cgroups, as root.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command};

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::*;

/// The plan for a container of this test, or none with the reason why it is skipped.
fn planned(name: &str, resources: Value) -> Option<CgroupPlan> {
    planned_in(None, name, resources)
}

fn planned_in(path: Option<&str>, name: &str, resources: Value) -> Option<CgroupPlan> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: making cgroups needs root");
        return None;
    }
    let hierarchies = Hierarchies::probe().unwrap();
    if hierarchies.layout() == Layout::Absent {
        eprintln!("skipped: no cgroup hierarchy is mounted");
        return None;
    }
    let id = format!("rsc-test-{}-{name}", std::process::id());
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    let path = path.map(|path| path.replace("ID", &id));
    let path = path.as_deref().map(Path::new);
    let resources = Some(&resources);
    let asked =
        Asked { path, id: &id, resources, owner: None, devices_default: true, rootless: false };
    match plan(&hierarchies, asked) {
        Ok(plan) => Some(plan),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn sleeper(cgroup: &Cgroup) -> Child {
    let child = Command::new("sleep").arg("100").spawn().unwrap();
    cgroup.join(nix::unistd::Pid::from_raw(child.id() as i32)).unwrap();
    child
}

fn read(cgroup: &Cgroup, v1: (&str, &str), v2: (&str, &str)) -> String {
    let (controller, file) =
        match cgroup.directories().iter().any(|it| it.version() == Version::One) {
            true => v1,
            false => v2,
        };
    let path = cgroup.directory(controller).unwrap().path().join(file);
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn is_gone(cgroup: &Cgroup) -> bool {
    cgroup.directories().iter().all(|directory| !directory.path().exists())
}

#[test]
fn limits_are_in_the_files() {
    let asked = json!({
        "memory": {"limit": 8 << 20, "swap": 16 << 20, "reservation": 4 << 20},
        "pids": {"limit": 7},
        "cpu": {"shares": 512, "quota": 50000, "period": 50000, "burst": 1000},
    });
    let Some(plan) = planned("limits", asked) else { return };
    let cgroup = plan.create().unwrap();
    assert_eq!(read(&cgroup, ("pids", "pids.max"), ("pids", "pids.max")), "7");
    let memory = read(&cgroup, ("memory", "memory.limit_in_bytes"), ("memory", "memory.max"));
    assert_eq!(memory, (8 << 20).to_string());
    let quota = read(&cgroup, ("cpu", "cpu.cfs_quota_us"), ("cpu", "cpu.max"));
    assert_eq!(quota.split(' ').next(), Some("50000"));
    // Once more on what is there, lower and higher: the kernel's own order of checks differs.
    for size in [4_u64 << 20, 64 << 20] {
        let asked = json!({"memory": {"limit": size, "swap": size + (1 << 20)}});
        let again = planned("limits", asked).unwrap();
        again.limit(&cgroup).unwrap();
        let memory = read(&cgroup, ("memory", "memory.limit_in_bytes"), ("memory", "memory.max"));
        assert_eq!(memory, size.to_string());
    }
    cgroup.delete().unwrap();
    assert!(is_gone(&cgroup));
}

#[test]
fn a_failure_leaves_nothing() {
    let asked = json!({"pids": {"limit": 5}, "cpu": {"cpus": "4096-5000"}});
    let Some(plan) = planned_in(Some("ID/deeper/box"), "failure", asked) else { return };
    let error = plan.create().unwrap_err();
    assert_eq!(error.property().unwrap().path, "$.linux.resources.cpu.cpus");
    assert!(error.to_string().contains("4096-5000"), "{error}");
    for group in &plan.groups {
        let top = group.directory().parent().unwrap().parent().unwrap().to_owned();
        assert!(!top.exists(), "{top:?}");
    }
}

#[test]
fn shared_parents_go_with_the_last() {
    let Some(one) = planned_in(Some("ID/pod/one"), "parents", json!({})) else { return };
    let two = planned_in(Some("ID/pod/two"), "parents", json!({})).unwrap();
    let (one, two) = (one.create().unwrap(), two.create().unwrap());
    let parent = one.directories()[0].path().parent().unwrap().to_owned();
    one.delete().unwrap();
    assert!(parent.exists());
    two.delete().unwrap();
    assert!(!parent.parent().unwrap().exists());
}

#[test]
fn parents_of_others_stay() {
    let Some(plan) = planned_in(Some("ID/box"), "others", json!({})) else { return };
    let theirs: Vec<_> =
        plan.groups.iter().map(|group| group.directory().parent().unwrap().to_owned()).collect();
    theirs.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    let cgroup = plan.create().unwrap();
    cgroup.delete().unwrap();
    assert!(is_gone(&cgroup));
    theirs.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
}

#[test]
fn freeze_kill_delete_by_what_the_state_remembers() {
    let Some(plan) = planned("life", json!({})) else { return };
    let cgroup = plan.create().unwrap();
    let cgroup: Cgroup = serde_json::from_str(&serde_json::to_string(&cgroup).unwrap()).unwrap();
    let mut children = [sleeper(&cgroup), sleeper(&cgroup)];
    let mut pids = children.each_ref().map(|child| child.id() as i32);
    pids.sort_unstable();
    assert_eq!(cgroup.pids().unwrap().iter().map(|pid| pid.as_raw()).collect::<Vec<_>>(), pids);
    assert!(plan.create().unwrap_err().to_string().contains("2 processes"));
    cgroup.freeze().unwrap();
    assert!(cgroup.frozen().unwrap());
    cgroup.kill(libc::SIGTERM).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    // Version 2 lets a frozen process die of a signal, version 1 of none.
    if cgroup.directories()[0].version() == Version::One {
        assert!(children[0].try_wait().unwrap().is_none(), "a frozen process took a signal");
        assert!(cgroup.frozen().unwrap());
    }
    cgroup.thaw().unwrap();
    assert!(!cgroup.frozen().unwrap());
    children[0].wait().unwrap();
    children[1].wait().unwrap();
    let mut last = sleeper(&cgroup);
    cgroup.freeze().unwrap();
    cgroup.kill(libc::SIGKILL).unwrap();
    last.wait().unwrap();
    cgroup.delete().unwrap();
    assert!(is_gone(&cgroup));
    cgroup.delete().unwrap();
}

#[test]
fn no_fork_bomb_escapes() {
    let Some(plan) = planned("bomb", json!({"pids": {"limit": 200}})) else { return };
    let cgroup = plan.create().unwrap();
    let script = "bomb() { bomb | bomb & }; read go; bomb";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdin(std::process::Stdio::piped());
    let mut bomb = shell.stderr(std::process::Stdio::null()).spawn().unwrap();
    cgroup.join(nix::unistd::Pid::from_raw(bomb.id() as i32)).unwrap();
    drop(bomb.stdin.take());
    std::thread::sleep(std::time::Duration::from_millis(200));
    cgroup.kill(libc::SIGKILL).unwrap();
    bomb.wait().unwrap();
    cgroup.delete().unwrap();
    assert!(is_gone(&cgroup));
}

#[test]
fn delete_takes_what_was_made_inside() {
    let Some(plan) = planned("inside", json!({})) else { return };
    let cgroup = plan.create().unwrap();
    for directory in cgroup.directories() {
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        std::fs::create_dir(directory.path().join("c")).unwrap();
    }
    cgroup.delete().unwrap();
    assert!(is_gone(&cgroup));
}

/// Through `tasks` a thread moves itself and only itself, so that the test's own may.
#[test]
fn entrances_take_their_writer_in() {
    let Some(plan) = planned("entrances", json!({})) else { return };
    let cgroup = plan.create().unwrap();
    let doors = cgroup.entrances(false).unwrap();
    let inside = std::thread::spawn(move || {
        for door in doors {
            nix::unistd::write(door, b"0").unwrap();
        }
        std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
    });
    let inside = inside.join().unwrap();
    let v1 = cgroup.directories().iter().filter(|it| it.version() == Version::One).count();
    assert_eq!(inside.lines().filter(|line| line.contains("-entrances")).count(), v1);
    cgroup.delete().unwrap();
}

#[test]
fn many_at_once_below_shared_parents() {
    if planned("many", json!({})).is_none() {
        return;
    }
    std::thread::scope(|scope| {
        for thread in 0..16 {
            scope.spawn(move || {
                for round in 0..10 {
                    let path = format!("ID/pod{}/{thread}", round % 2);
                    let plan = planned_in(Some(&path), "many", json!({})).unwrap();
                    plan.create().unwrap().delete().unwrap();
                }
            });
        }
    });
    let plan = planned("many", json!({})).unwrap();
    plan.groups.iter().for_each(|group| assert!(!group.directory().exists()));
}

/// Runs a shell command inside; what it complains about, if it fails.
fn complaint(cgroup: &Cgroup, script: &str) -> Option<String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("read go; {script}")]).env("LC_ALL", "C");
    let pipes = shell.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    cgroup.join(nix::unistd::Pid::from_raw(child.id() as i32)).unwrap();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    (!output.status.success()).then(|| String::from_utf8(output.stderr).unwrap())
}

const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/kmsg"];

fn check_devices(cgroup: &Cgroup, expected: [bool; 3]) {
    for (device, allowed) in DEVICES.iter().zip(expected) {
        match complaint(cgroup, &format!("exec 3<{device}")) {
            Some(complaint) => {
                assert!(complaint.contains("Operation not permitted"), "{complaint}");
                assert!(!allowed, "{device}: {complaint}");
            }
            None => assert!(allowed, "{device}"),
        }
    }
}

#[test]
fn devices_are_refused() {
    let asked = json!({"devices": [{"allow": false, "access": "rwm"}]});
    let Some(plan) = planned("devices", asked) else { return };
    let cgroup = plan.create().unwrap();
    check_devices(&cgroup, [true, true, false]);
    cgroup.delete().unwrap();
}

/// A plan whose rules are kept to by a program, on a hybrid host too.
fn planned_program(rules: Value) -> Option<CgroupPlan> {
    let mut plan = planned("program", json!({}))?;
    let Some(unified) = plan.groups.last_mut().filter(|it| it.hierarchy.version == Version::Two)
    else {
        eprintln!("skipped: the unified hierarchy is not mounted");
        return None;
    };
    let rules: LinuxResources = serde_json::from_value(json!({"devices": rules})).unwrap();
    let rules = rules.devices().as_deref().unwrap_or_default();
    devices::place(rules, false, std::slice::from_mut(unified)).unwrap();
    Some(plan)
}

#[test]
fn devices_are_refused_by_a_program() {
    let nothing = json!({"allow": false});
    let just_null = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"});
    let Some(plan) = planned_program(json!([nothing, just_null])) else { return };
    let cgroup = plan.create().unwrap();
    check_devices(&cgroup, [true, false, false]);
    // Made once more on what is there, it takes the first one's place. Of rules that split an
    // access between them, each decides over its part; the last one that matches wins.
    let memory = |access: &str| json!({"allow": true, "type": "c", "major": 1, "access": access});
    let kmsg = json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "r"});
    let rules = json!([nothing, memory("r"), memory("w"), kmsg]);
    let plan = planned_program(rules).unwrap();
    let cgroup = plan.create().unwrap();
    check_devices(&cgroup, [true, true, false]);
    plan.limit(&cgroup).unwrap();
    check_devices(&cgroup, [true, true, false]);
    assert_eq!(complaint(&cgroup, "exec 3<>/dev/null 4>/dev/kmsg"), None);
    let made = "mknod /dev/rsc-test-null c 1 3 && rm /dev/rsc-test-null";
    assert!(complaint(&cgroup, made).unwrap().contains("Operation not permitted"));
    cgroup.delete().unwrap();
}

#[test]
fn limits_change_while_somebody_is_inside() {
    let Some(plan) = planned("change", json!({"pids": {"limit": 50}})) else { return };
    let cgroup = plan.create().unwrap();
    let mut child = sleeper(&cgroup);
    let change = |resources: Value| {
        let resources: LinuxResources = serde_json::from_value(resources).unwrap();
        cgroup.update(&resources, &[]).and_then(|update| update.apply().map(drop))
    };
    let limit = || read(&cgroup, ("memory", "memory.limit_in_bytes"), ("memory", "memory.max"));
    for size in [64_u64 << 20, 16 << 20, 128 << 20] {
        change(json!({"memory": {"limit": size, "swap": 2 * size}})).unwrap();
        assert_eq!(limit(), size.to_string());
    }
    for (quota, period) in [(50_000, 100_000), (5_000, 10_000), (900_000, 1_000_000)] {
        let cpu = json!({"cpu": {"quota": quota, "period": period, "burst": quota / 2}});
        change(cpu).unwrap();
    }
    let refused = json!({"memory": {"limit": 32 << 20}, "cpu": {"cpus": "4096"}});
    let error = change(refused).unwrap_err();
    assert!(error.to_string().starts_with("the limits stay as they were"), "{error}");
    assert_eq!(limit(), (128 << 20).to_string());
    child.kill().unwrap();
    child.wait().unwrap();
    cgroup.delete().unwrap();
}

#[test]
fn programs_are_exchanged_and_put_back() {
    let nothing = json!({"allow": false});
    let just_null = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"});
    let Some(plan) = planned_program(json!([nothing, just_null])) else { return };
    let cgroup = plan.create().unwrap();
    let directory = cgroup.unified().unwrap();
    let zero = json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"});
    let rules = json!([nothing, just_null, zero]);
    let wider = planned_program(rules).unwrap();
    let wider = wider.groups.last().unwrap().devices.as_ref().unwrap().program();
    let before = program::exchange(Some(&wider), directory).unwrap();
    check_devices(&cgroup, [true, true, false]);
    before.restore(directory).unwrap();
    check_devices(&cgroup, [true, false, false]);
    let before = program::exchange(None, directory).unwrap();
    check_devices(&cgroup, [true, true, true]);
    before.restore(directory).unwrap();
    check_devices(&cgroup, [true, false, false]);
    cgroup.delete().unwrap();
}
