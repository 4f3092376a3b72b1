//! What bytes from anywhere go through, and what must hold then: no panic, and no other result on a
//! second way. Taken by `fuzz/`, where bytes are searched for, and by `tests/fuzz.rs`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a panic is what is looked for")]

use oci_spec::runtime::Arch;
use rscontainer::plan::seccomp::Support;
use rscontainer::plan::step::StartSignal;
use rscontainer::plan::{Facts, Plan, SecurityModules, Situation};
use rscontainer::{Error, spec};

use crate::cases::hierarchies;

fn hosts() -> [Facts; 3] {
    let facts = |host, rootless, confined| Facts {
        hierarchies: hierarchies(host),
        rootless,
        uid: if rootless { 1000 } else { 0 },
        gid: if rootless { 1000 } else { 0 },
        setgroups: true,
        capabilities: if rootless { 0 } else { (1 << 41) - 1 },
        modules: SecurityModules { apparmor: confined, selinux: confined },
        resctrl: confined.then(|| "/sys/fs/resctrl".into()),
        seccomp: Support { native: Some(Arch::ScmpArchX86_64), ..Support::full() },
    };
    [facts("unified", false, true), facts("hybrid", true, false), facts("legacy", false, false)]
}

/// A config's way from bytes to a plan, on hosts that are only described.
pub fn config(bytes: &[u8]) {
    let (spec, _) = match spec::check(bytes) {
        Ok(checked) => checked,
        Err(error) => return explained(&error),
    };
    for facts in hosts() {
        let situation = Situation::new("box", "/bundle", StartSignal::Socket);
        match Plan::compile(&spec, &facts, &situation) {
            Ok(plan) => crossed(&plan),
            Err(error) => explained(&error),
        }
        let Some(process) = spec.process() else { continue };
        match Plan::compile_exec(&spec, process, &facts, &situation) {
            Ok(plan) => crossed(&plan),
            Err(error) => explained(&error),
        }
    }
}

/// A plan as the stage reads it: whatever the bytes, it is refused or can be told of.
pub fn order(bytes: &[u8]) {
    let Ok(plan) = postcard::from_bytes::<Plan>(bytes) else { return };
    crossed(&plan);
}

/// The other side must read what this side wrote.
fn crossed(plan: &Plan) {
    let text = postcard::to_allocvec(plan).unwrap();
    let other: Plan = postcard::from_bytes(&text).unwrap();
    assert_eq!(text, postcard::to_allocvec(&other).unwrap());
    assert_eq!(steps(plan), steps(&other));
    assert_eq!(plan.clones_again(), other.clones_again());
    // What the parent adds to it can be told of too.
    let _ = plan.to_string();
}

fn steps(plan: &Plan) -> Vec<String> {
    // Who asked for a step is the parent's to know, and stays there.
    plan.steps.iter().map(|it| format!("{} {:?}", it.step, it.step.wait())).collect()
}

/// Whatever is refused is refused by name, on one line.
fn explained(error: &Error) {
    let path = error.property().map(|property| property.path.as_str());
    assert!(path.is_some_and(|path| path.starts_with('$')), "{error}");
    let said = error.to_string();
    assert!(!said.contains(char::is_control), "{said:?}");
}
