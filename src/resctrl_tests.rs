use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use serde_json::{Value, json};

use super::{ResctrlPlan, plan, shares};
use crate::Error;

/// A folder with the files that the kernel would make, removed at the end.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("resctrl-{name}-{}", std::process::id()));
        let host = Host(place);
        host.group(".");
        fs::create_dir(host.0.join("info")).expect("a folder");
        host
    }

    fn group(&self, name: &str) {
        fs::create_dir_all(self.0.join(name).join("mon_groups")).expect("folders");
        self.write(&format!("{name}/tasks"), "");
        self.write(&format!("{name}/schemata"), "    L3:0=fffff;1=0000f\n    MB:0= 20;1=100\n");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect("a file")
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    fn plan(&self, wanted: Value) -> ResctrlPlan {
        let wanted: LinuxIntelRdt = serde_json::from_value(wanted).expect("a config");
        plan(Some(&wanted), Some(&self.0), "box").expect("a plan").expect("something to do")
    }

    /// What goes wrong, at whichever point.
    fn refuses(&self, wanted: Value) -> Error {
        let plan = self.plan(wanted);
        plan.intended().and_then(|intended| plan.make(intended, 7)).expect_err("refused")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn needs_the_file_system() {
    let wanted = LinuxIntelRdt::default();
    let error = plan(Some(&wanted), None, "box").expect_err("nothing is mounted");
    assert!(error.to_string().starts_with("$.linux.intelRdt: no resctrl file system"), "{error}");
    assert_eq!(plan(None, Some(Path::new("/x")), "box"), Ok(None));
}

#[test]
fn takes_a_class_as_it_is() {
    let host = Host::new("as-it-is");
    let missing = host.refuses(json!({"closID": "gold"}));
    assert!(missing.to_string().contains("make it beforehand"), "{missing}");
    assert!(!host.has("gold"));
    host.group("gold");
    let before = host.read("gold/schemata");
    for (name, tasks) in [("gold", "gold/tasks"), ("/", "tasks")] {
        let plan = host.plan(json!({"closID": name}));
        let made = plan.intended().and_then(|it| plan.make(it, 7)).expect("made");
        assert_eq!(host.read(tasks), "7");
        made.delete().expect("nothing to remove");
        assert!(host.has(tasks));
    }
    assert_eq!(host.read("gold/schemata"), before);
}

#[test]
fn compares_a_class_with_what_is_asked() {
    let host = Host::new("compared");
    host.group("gold");
    let before = host.read("gold/schemata");
    for (wanted, word) in [
        (json!({"closID": "gold", "l3CacheSchema": "L3:0=ffff"}), "L3:0=fffff, not ffff"),
        (json!({"closID": "gold", "l3CacheSchema": "L3:2=f"}), "no such share, not f"),
        (json!({"closID": "gold", "memBwSchema": "MB:0=20;1=10"}), "MB:1=100, not 10"),
    ] {
        let error = host.refuses(wanted);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(host.read("gold/schemata"), before);
        assert_eq!(host.read("gold/tasks"), "");
    }
    let plan = host.plan(json!({
        "closID": "gold", "l3CacheSchema": "L3:1=F;0=fffff", "memBwSchema": "MB:0=020",
        "schemata": ["L2:0=f"],
    }));
    plan.intended().and_then(|it| plan.make(it, 7)).expect("made");
    // Over what was there, as a file on disk keeps it.
    assert!(host.read("gold/schemata").starts_with("L3:1=F;0=fffff\nMB:0=020\nL2:0=f\n"));
    assert_eq!(host.read("gold/tasks"), "7");
}

#[test]
fn makes_and_removes_a_class_of_its_own() {
    let host = Host::new("own");
    let plan = host.plan(json!({"l3CacheSchema": "L3:0=f", "enableMonitoring": true}));
    let intended = plan.intended().expect("nothing is in the way");
    // No kernel fills this folder, so that the first write fails: nothing is left.
    host.write("info/last_cmd_status", "Mask is wrong\n");
    let error = plan.make(intended.clone(), 7).expect_err("there is no schemata");
    assert!(error.to_string().starts_with("mask is wrong: write "), "{error}");
    assert!(!host.has("box"));
    // After a runtime that died, whoever finds the record removes it.
    fs::create_dir(host.0.join("box")).expect("a folder");
    let record = serde_json::to_string(&intended).expect("plain data");
    let found: super::Resctrl = serde_json::from_str(&record).expect("the same");
    found.delete().expect("removed");
    found.delete().expect("gone already");
    assert!(!host.has("box"));
    // One that was there before is used, and stays.
    host.group("box");
    let plan = host.plan(json!({}));
    let made = plan.intended().and_then(|it| plan.make(it, 7)).expect("made");
    assert_eq!(host.read("box/tasks"), "7");
    made.delete().expect("nothing to remove");
    assert!(host.has("box"));
}

#[test]
fn monitors_in_a_group_of_its_own() {
    let host = Host::new("monitored");
    host.group("gold");
    let wanted = json!({"closID": "gold", "enableMonitoring": true});
    let error = host.refuses(wanted.clone());
    assert_eq!(error.errno(), Some(nix::errno::Errno::ENOENT), "{error}");
    assert!(!host.has("gold/mon_groups/box"));
    let plan = host.plan(wanted.clone());
    let intended = plan.intended().expect("nothing is in the way");
    fs::create_dir(host.0.join("gold/mon_groups/box")).expect("a folder");
    let error = host.refuses(wanted);
    assert_eq!(error.errno(), Some(nix::errno::Errno::EEXIST), "{error}");
    intended.delete().expect("removed");
    assert!(!host.has("gold/mon_groups/box"));
    assert!(host.has("gold/tasks"));
}

#[test]
fn reads_shares_as_numbers() {
    let written = shares("L3:0=007F0;1=1f\nMB:00=20\nodd\nL3:\n");
    let shown: Vec<String> =
        written.iter().map(|((name, domain), value)| format!("{name} {domain} {value}")).collect();
    assert_eq!(shown, ["L3 0 7f0", "L3 1 1f", "MB 0 20"]);
}

#[test]
fn shares_change_and_the_kernels_words_are_kept() {
    let host = Host::new("update");
    host.group("box");
    let resctrl = super::Resctrl { group: host.0.join("box"), monitor: None, remove: Vec::new() };
    resctrl.update("L3:0=f;1=f\n").expect("it is taken");
    assert!(host.read("box/schemata").starts_with("L3:0=f;1=f\n"));
    fs::remove_file(host.0.join("box/schemata")).expect("it is there");
    let error = resctrl.update("L3:0=f\n").expect_err("there is no such file");
    assert_eq!(error.property().expect("a property").path, "$.linux.intelRdt");
    // None is made.
    assert!(!host.has("box/schemata"));
}
