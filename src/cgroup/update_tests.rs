#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::super::hierarchies::Version;
use super::*;

/// A folder that looks like a cgroup of version 2, with these files in it.
fn folder(name: &str, files: &[(&str, &str)]) -> Cgroup {
    let path = std::env::temp_dir().join(format!("rsc-update-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    files.iter().for_each(|(file, text)| fs::write(path.join(file), text).unwrap());
    let controllers = ["cpu", "memory", "pids", "cpuset", "io"].map(str::to_owned).to_vec();
    let (version, made, parents, handle) = (Version::Two, false, Vec::new(), None);
    let directory = Directory { path, version, controllers, made, parents, handle };
    Cgroup { directories: vec![directory], unit: None }
}

fn apply(cgroup: &Cgroup, change: Value) -> Result<()> {
    let change: LinuxResources = serde_json::from_value(change).unwrap();
    cgroup.update(&change, &[])?.apply().map(drop)
}

/// Its files, without what a shorter text left of a longer one: these are no files of the kernel's.
fn starts(cgroup: &Cgroup, file: &str, text: &str) -> bool {
    fs::read_to_string(cgroup.directories[0].path.join(file)).unwrap().starts_with(text)
}

fn remove(cgroup: &Cgroup) {
    fs::remove_dir_all(&cgroup.directories[0].path).unwrap();
}

#[test]
fn who_has_no_cgroup_is_told() {
    let error = apply(&Cgroup::default(), json!({"pids": {"limit": 5}})).unwrap_err();
    assert!(error.to_string().contains("no cgroup of its own"), "{error}");
}

#[test]
fn a_controller_that_is_not_there_is_named() {
    let cgroup = folder("rdma", &[]);
    let error = apply(&cgroup, json!({"rdma": {"mlx": {"hcaHandles": 1}}})).unwrap_err();
    assert_eq!(error.property().unwrap().path, "$.linux.resources.rdma[\"mlx\"]");
    remove(&cgroup);
}

#[test]
fn a_part_that_is_refused_takes_the_others_back() {
    let files =
        [("memory.max", "max\n"), ("memory.swap.max", "max\n"), ("cpu.max", "max 100000\n")];
    let cgroup = folder("refused", &files);
    // There is no file for processes.
    let change = json!({
        "memory": {"limit": 5000, "swap": 9000}, "cpu": {"quota": 7000}, "pids": {"limit": 3},
    });
    let error = apply(&cgroup, change).unwrap_err();
    assert!(error.to_string().starts_with("the limits stay as they were: set pids.max"), "{error}");
    assert!(starts(&cgroup, "memory.max", "max"));
    assert!(starts(&cgroup, "memory.swap.max", "max"));
    assert!(starts(&cgroup, "cpu.max", "max 100000"));
    apply(&cgroup, json!({"memory": {"limit": 5000, "swap": 9000}, "cpu": {"quota": 7000}}))
        .unwrap();
    assert!(starts(&cgroup, "memory.max", "5000"));
    assert!(starts(&cgroup, "memory.swap.max", "4000"));
    assert!(starts(&cgroup, "cpu.max", "7000 100000"));
    remove(&cgroup);
}

#[test]
fn a_limit_below_the_usage_is_refused_where_that_is_asked_for() {
    let cgroup = folder("usage", &[("memory.max", "max\n"), ("memory.current", "6000\n")]);
    let change = |check: bool| json!({"memory": {"limit": 5000, "checkBeforeUpdate": check}});
    let error = apply(&cgroup, change(true)).unwrap_err();
    assert!(error.to_string().contains("6000 bytes are in use"), "{error}");
    assert!(starts(&cgroup, "memory.max", "max"));
    apply(&cgroup, change(false)).unwrap();
    assert!(starts(&cgroup, "memory.max", "5000"));
    remove(&cgroup);
}

#[test]
fn what_is_not_taken_back_is_named() {
    let cgroup = folder("stuck", &[("pids.max", "max\n")]);
    let directory = &cgroup.directories[0];
    let undo = Undo {
        writes: vec![(
            directory,
            vec![Write::new("gone.max", "1", "$"), Write::new("pids.max", "2", "$")],
        )],
        ..Undo::default()
    };
    let error = undo.explained(Error::new(Kind::Other, "why"));
    let expected = "the limits are changed in part (not taken back: gone.max): why";
    assert_eq!(error.to_string(), expected);
    assert!(starts(&cgroup, "pids.max", "2"));
    assert!(!Path::new(&directory.path).join("gone.max").exists());
    remove(&cgroup);
}
