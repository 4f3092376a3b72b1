//! What the specification allows and the types of `oci-spec` refuse.

use oci_spec::runtime::{Capability, LinuxCapabilities};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as NameError, StrDeserializer};
use serde_json::{Map, Value};

use super::{Warning, names, section};
use crate::error::shortened;
use crate::{Error, Result, suggest};

/// Rewrites a config, equal in meaning, until the types take it.
///
/// # Errors
///
/// For a capability that is no string: its index would be lost.
pub(super) fn repair(config: &mut Value, warnings: &mut Vec<Warning>) -> Result<()> {
    drop_nulls(config);
    let Some(config) = config.as_object_mut() else { return Ok(()) };
    // Other platforms' sections, and two properties that only the crate knows
    // at this level, must not make a Linux config fail.
    for foreign in ["windows", "solaris", "zos", "vm", "uidMappings", "gidMappings"] {
        config.remove(foreign);
    }
    if let Some(process) = object(config, "process") {
        repair_process(process, warnings)?;
    }
    if let Some(resources) = object(config, "linux").and_then(|linux| object(linux, "resources")) {
        repair_resources(resources);
    }
    Ok(())
}

fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    parent.get_mut(key)?.as_object_mut()
}

/// `null` counts as absent, as in every other runtime.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn repair_process(process: &mut Map<String, Value>, warnings: &mut Vec<Warning>) -> Result<()> {
    process.entry("user").or_insert_with(|| Value::Object(Map::new()));
    if let Some(sets) = object(process, "capabilities") {
        for set in names::<LinuxCapabilities>() {
            if let Some(written) = sets.get_mut(*set) {
                drop_unknown_capabilities(set, written, warnings)?;
            }
        }
    }
    if let Some(Value::Array(flags)) =
        object(process, "scheduler").and_then(|scheduler| scheduler.get_mut("flags"))
    {
        for flag in flags {
            if let Some((_, own)) = FLAGS.iter().find(|(name, _)| flag == name) {
                *flag = Value::from(*own);
            }
        }
    }
    if let Some(affinity) = object(process, "execCPUAffinity") {
        affinity.retain(|_, list| list != "");
    }
    Ok(())
}

/// The specification's spelling, and the crate's.
pub(super) const FLAGS: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

fn drop_unknown_capabilities(
    set: &str,
    names: &mut Value,
    warnings: &mut Vec<Warning>,
) -> Result<()> {
    let Value::Array(written) = names else { return Ok(()) };
    let mut known = Vec::with_capacity(written.len());
    for (index, value) in written.drain(..).enumerate() {
        let path = format!("$.process.capabilities.{set}[{index}]");
        let Some(name) = value.as_str() else {
            let section = section::of(&path);
            return Err(Error::spec(path, Some(value.to_string()), section, "must be a string"));
        };
        let deserializer: StrDeserializer<'_, NameError> = name.into_deserializer();
        if Capability::deserialize(deserializer).is_ok() {
            known.push(value);
            continue;
        }
        // In the words that are looked for in the logs of other runtimes.
        let shown = shortened(name);
        let mut message = format!("ignoring unknown or unavailable capabilities: [{shown}]");
        if let Some(near) = nearest_capability(name) {
            message.push_str(&format!("; did you mean {near:?}?"));
        }
        warnings.push(Warning { path, message });
    }
    *written = known;
    Ok(())
}

fn nearest_capability(written: &str) -> Option<String> {
    let bare = written.strip_prefix("CAP_").unwrap_or(written);
    let known: Vec<String> = caps::all().iter().map(|known| known.to_string()).collect();
    let bare_names = known.iter().filter_map(|name| name.strip_prefix("CAP_"));
    suggest::nearest(bare, bare_names).map(|name| format!("CAP_{name}"))
}

fn repair_resources(resources: &mut Map<String, Value>) {
    if let Some(Value::Array(rules)) = resources.get_mut("devices") {
        for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
            rule.retain(|key, value| key != "type" || value != "");
        }
    }
    if let Some(Value::Array(limits)) = resources.get_mut("hugepageLimits") {
        for limit in limits.iter_mut().filter_map(|entry| entry.get_mut("limit")) {
            if limit.as_u64().is_some_and(|bytes| bytes > i64::MAX as u64) {
                // The crate's integer is signed; no machine has that many bytes either way.
                *limit = Value::from(i64::MAX);
            }
        }
    }
}
