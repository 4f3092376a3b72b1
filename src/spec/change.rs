//! A change to `linux.resources`: checked alone, put over what holds, completed from that.

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};

use super::{Warning, check_resources};
use crate::Result;

/// What a change comes to.
#[derive(Debug)]
pub struct ResourcesChange {
    /// What the kernel has to be told: what is asked for, and what it wants said along with that.
    pub asked: LinuxResources,
    /// What holds afterwards, as JSON.
    pub whole: Value,
    /// What the specification wants said and not refused.
    pub warnings: Vec<Warning>,
}

/// Properties of which zero or an empty text, as encoders write for none, leaves things alone.
const UNSET_BY_ZERO: [(&str, &[&str]); 4] = [
    ("memory", &["limit", "swap", "reservation", "kernel", "kernelTCP"]),
    ("cpu", &["shares", "quota", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems"]),
    ("blockIO", &["weight", "leafWeight"]),
    ("network", &["classID"]),
];

/// What tells one entry of a list from another.
const IDENTITY: [&str; 4] = ["major", "minor", "pageSize", "name"];

/// Works out what changes when `change`, a JSON object, is put over `before`.
///
/// # Errors
/// The change, or what would hold after it, breaks a rule of the specification.
pub fn change_resources(before: &Value, mut change: Value) -> Result<ResourcesChange> {
    let (_, warnings) = check_resources(&change)?;
    if change.is_null() {
        // As absent.
        change = Value::Object(Map::new());
    }
    strip(&mut change);
    let mut whole = before.clone();
    if unlimits_memory(&change)
        && let Some(memory) = whole.get_mut("memory").and_then(Value::as_object_mut)
    {
        // A limit on memory and swap together would be one on memory.
        memory.remove("swap");
    }
    merge(&mut whole, &change, "");
    check_resources(&whole)?;
    complete(&mut change, &whole);
    let (asked, _) = check_resources(&change)?;
    Ok(ResourcesChange { asked, whole, warnings })
}

/// Drops what says nothing.
fn strip(change: &mut Value) {
    let Some(kinds) = change.as_object_mut() else { return };
    for (kind, names) in UNSET_BY_ZERO {
        if let Some(of_kind) = kinds.get_mut(kind).and_then(Value::as_object_mut) {
            of_kind.retain(|name, value| {
                let nothing = value.as_f64() == Some(0.0) || value.as_str() == Some("");
                !(nothing && names.contains(&name.as_str()))
            });
        }
    }
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Object(inner) => inner.is_empty(),
        _ => false,
    };
    for value in kinds.values_mut().filter_map(Value::as_object_mut) {
        value.retain(|_, inner| !inner.is_null());
    }
    kinds.retain(|_, value| !says_nothing(value));
}

fn unlimits_memory(change: &Value) -> bool {
    let memory = |name: &str| change.get("memory").and_then(|memory| memory.get(name));
    memory("limit").and_then(Value::as_i64) == Some(-1) && memory("swap").is_none()
}

/// Puts a value over another. Lists are joined by what their entries are about, but for the rules
/// for devices, which mean something together alone.
fn merge(whole: &mut Value, change: &Value, name: &str) {
    match (whole, change) {
        (Value::Object(whole), Value::Object(change)) => {
            for (name, value) in change {
                merge(whole.entry(name.as_str()).or_insert(Value::Null), value, name);
            }
        }
        (Value::Array(whole), Value::Array(change)) if name != "devices" => {
            for entry in change {
                match whole.iter_mut().find(|own| is_about_the_same(own, entry)) {
                    Some(own) => merge(own, entry, ""),
                    None => whole.push(entry.clone()),
                }
            }
        }
        (whole, change) => *whole = change.clone(),
    }
}

fn is_about_the_same(one: &Value, other: &Value) -> bool {
    IDENTITY.iter().all(|name| one.get(name) == other.get(name))
}

/// Adds what the kernel takes together, or forgets.
fn complete(change: &mut Value, whole: &Value) {
    let Some(kinds) = change.as_object_mut() else { return };
    let mut add = |kind: &str, if_any: &[&str], add: &[&str]| {
        let Some(asked) = kinds.get_mut(kind).and_then(Value::as_object_mut) else { return };
        if if_any.iter().any(|name| asked.contains_key(*name)) {
            add.iter().for_each(|name| take_over(asked, whole.get(kind), name));
        }
    };
    // Version 2 has both in one file.
    add("cpu", &["quota", "period"], &["quota", "period"]);
    // Version 2's limit on swap is the difference.
    add("memory", &["limit", "swap"], &["limit", "swap", "checkBeforeUpdate"]);
    // A cgroup that is idle no more has the default weight.
    let wakes = |cpu: &Value| cpu.get("idle").and_then(Value::as_i64) == Some(0);
    if whole.get("cpu").is_some_and(wakes) {
        add("cpu", &["idle"], &["shares"]);
    }
}

fn take_over(asked: &mut Map<String, Value>, whole: Option<&Value>, name: &str) {
    if let (None, Some(value)) = (asked.get(name), whole.and_then(|whole| whole.get(name))) {
        asked.insert(name.to_owned(), value.clone());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the kernel is told, and what holds.
    fn changed(before: Value, change: Value) -> (Value, Value) {
        let change = change_resources(&before, change).unwrap();
        (serde_json::to_value(change.asked).unwrap(), change.whole)
    }

    #[test]
    fn zero_and_null_leave_things_alone() {
        let before = json!({"memory": {"limit": 5}, "cpu": {"cpus": "0"}});
        let zeros = json!({
            "memory": {"limit": 0, "swap": null}, "cpu": {"cpus": "", "shares": 0}, "pids": {},
        });
        assert_eq!(changed(before.clone(), zeros), (json!({}), before.clone()));
        assert_eq!(changed(before.clone(), Value::Null), (json!({}), before));
    }

    #[test]
    fn what_belongs_together_is_said_together() {
        let before = json!({"cpu": {"quota": 7000, "period": 10_000, "shares": 5}});
        let (asked, whole) = changed(before, json!({"cpu": {"period": 20_000}}));
        assert_eq!(asked, json!({"cpu": {"quota": 7000, "period": 20_000}}));
        assert_eq!(whole, json!({"cpu": {"quota": 7000, "period": 20_000, "shares": 5}}));
        let before = json!({"memory": {"limit": 5, "swap": 9}});
        let (asked, whole) = changed(before.clone(), json!({"memory": {"limit": 6}}));
        assert_eq!(asked, json!({"memory": {"limit": 6, "swap": 9}}));
        assert_eq!(whole, asked);
        let error = change_resources(&before, json!({"memory": {"limit": 10}})).unwrap_err();
        assert_eq!(error.property().unwrap().path, "$.linux.resources.memory.swap");
        let (_, whole) = changed(before, json!({"memory": {"limit": -1}}));
        assert_eq!(whole, json!({"memory": {"limit": -1}}));
        let idle = json!({"cpu": {"idle": 1, "shares": 5}});
        assert_eq!(changed(idle, json!({"cpu": {"idle": 0}})).1["cpu"]["shares"], 5);
    }

    #[test]
    fn lists_are_joined_by_what_they_are_about() {
        let device = |minor, rate| json!({"major": 8, "minor": minor, "rate": rate});
        let throttle = |devices: Value| json!({"blockIO": {"throttleReadBpsDevice": devices}});
        let before = throttle(json!([device(0, 1), device(1, 1)]));
        let (asked, whole) = changed(before, throttle(json!([device(1, 2), device(2, 2)])));
        assert_eq!(asked, throttle(json!([device(1, 2), device(2, 2)])));
        assert_eq!(whole, throttle(json!([device(0, 1), device(1, 2), device(2, 2)])));
        let rule = |allow| json!({"devices": [{"allow": allow, "access": "rwm"}]});
        assert_eq!(changed(rule(true), rule(false)).1, rule(false));
    }
}
