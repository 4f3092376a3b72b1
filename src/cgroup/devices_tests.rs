#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn policy(rules: &[(bool, &str)], with_defaults: bool) -> Result<Policy> {
    let rules: Vec<LinuxDeviceCgroup> =
        rules.iter().map(|(allow, text)| rule(*allow, text)).collect();
    Policy::of(&rules, with_defaults)
}

/// `c 1:3 rw` as the config has it.
fn rule(allow: bool, text: &str) -> LinuxDeviceCgroup {
    let mut parts = text.split([' ', ':']);
    let mut next = || parts.next().unwrap();
    let (of, major, minor, access) = (next(), next(), next(), next());
    let mut rule = json!({"allow": allow, "type": of, "access": access});
    for (name, number) in [("major", major), ("minor", minor)] {
        if let Ok(number) = number.parse::<i64>() {
            rule[name] = number.into();
        }
    }
    serde_json::from_value(rule).unwrap()
}

fn written(rules: &[(bool, &str)]) -> Vec<String> {
    let writes = policy(rules, false).unwrap().writes().unwrap();
    writes.iter().map(|write| format!("{} {}", write.file, write.value)).collect()
}

#[test]
fn rules_in_order() {
    let rules = [(true, "c 1:3 rwm"), (false, "a *:* rwm"), (true, "c 1:3 r"), (true, "c 1:3 w")];
    assert_eq!(written(&rules), ["devices.deny a", "devices.allow c 1:3 rw"]);
    let rules = [(false, "a *:* rwm"), (true, "c 1:3 rwm"), (false, "c 1:* w")];
    assert_eq!(written(&rules), ["devices.deny a", "devices.allow c 1:3 rm"]);
    assert_eq!(written(&[(false, "b 8:* rwm")]), ["devices.deny b 8:* rwm"]);
    assert_eq!(written(&[(true, "a *:* rwm")]), ["devices.allow a"]);
}

#[test]
fn a_rule_for_all_types_keeps_its_numbers_in_version_1() {
    let rules = [(false, "a *:* rwm"), (true, "a 7:* r")];
    assert_eq!(
        written(&rules),
        ["devices.deny a", "devices.allow c 7:* r", "devices.allow b 7:* r"]
    );
}

#[test]
fn version_1_has_no_holes() {
    let rules = [(false, "a *:* rwm"), (true, "c 1:* rwm"), (false, "c 1:3 w")];
    let policy = policy(&rules, false).unwrap();
    assert_eq!(policy.writes().unwrap_err().kind(), Kind::Spec);
    assert!(policy.refuses());
}

#[test]
fn nothing_to_do_for_open_devices() {
    assert!(policy(&[], true).unwrap().is_open());
    assert!(policy(&[(true, "c 1:3 rwm")], true).unwrap().is_open());
    assert!(!policy(&[(false, "c 1:3 rwm")], true).unwrap().is_open());
    assert!(!policy(&[(true, "a *:* rwm")], true).unwrap().refuses());
}

#[test]
fn wrong_rules_name_their_place() {
    let of = |rule| {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_value(json!([rule])).unwrap();
        Policy::of(&rules, false).unwrap_err().property().unwrap().path.clone()
    };
    let at = |name| format!("$.linux.resources.devices[0].{name}");
    assert_eq!(of(json!({"allow": true, "access": "rx"})), at("access"));
    assert_eq!(of(json!({"allow": true, "type": "p"})), at("type"));
    assert_eq!(of(json!({"allow": true, "major": -7})), at("major"));
    assert_eq!(of(json!({"allow": true, "minor": 1_i64 << 40})), at("minor"));
}

#[test]
fn rules_change_without_a_moment_between() {
    let nothing = json!({"allow": false, "access": "rwm"});
    let device = |minor: i64, access: &str| json!({"allow": true, "type": "c", "major": 1, "minor": minor, "access": access});
    let rules = |rules: Value| -> Vec<LinuxDeviceCgroup> { serde_json::from_value(rules).unwrap() };
    let (hybrid, unified) =
        (super::super::hierarchies::tests::hybrid(), super::super::hierarchies::tests::unified());
    let groups = |hierarchies: &super::super::Hierarchies| -> Vec<Group> {
        let group = |it| Group::at(it, "".into(), "".into());
        hierarchies.iter().map(group).collect()
    };
    let said = |writes: &[Write]| -> Vec<String> {
        writes.iter().map(|write| format!("{} {}", write.file, write.value)).collect()
    };
    let before = rules(json!([nothing, device(11, "rw"), device(12, "r")]));
    let after = rules(json!([nothing, device(11, "r"), device(13, "r")]));
    let (at, changed) = change(&before, &after, &groups(&hybrid)).unwrap();
    assert!(groups(&hybrid)[at].has("devices"));
    let Change::Rules { forth, back, at_once } = changed else { panic!("{changed:?}") };
    assert!(!at_once);
    let expected = ["devices.deny c 1:11 w", "devices.deny c 1:12 r", "devices.allow c 1:13 r"];
    assert_eq!(said(&forth), expected);
    let expected = ["devices.deny c 1:13 r", "devices.allow c 1:11 w", "devices.allow c 1:12 r"];
    assert_eq!(said(&back), expected);

    // Another default is written before the exceptions to it: nobody may see what is between.
    let open = rules(json!([{"allow": true, "access": "rwm"}]));
    let (_, changed) = change(&before, &open, &groups(&hybrid)).unwrap();
    let Change::Rules { forth, back, at_once } = changed else { panic!("{changed:?}") };
    assert!(at_once);
    assert_eq!(said(&forth), ["devices.allow a"]);
    assert_eq!(said(&back)[..2], ["devices.deny a", "devices.allow c 1:11 rw"]);

    let (_, changed) = change(&before, &open, &groups(&unified)).unwrap();
    assert_eq!(changed, Change::Program(None));
    let (_, changed) = change(&open, &before, &groups(&unified)).unwrap();
    assert!(matches!(changed, Change::Program(Some(_))));
}
