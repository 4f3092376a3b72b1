#![allow(clippy::unwrap_used)]

use serde_json::json;

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
