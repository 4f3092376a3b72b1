//! update: other limits for a container that runs.

use oci_spec::runtime::LinuxDeviceCgroup;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Held;
use crate::error::{Error, Kind, Result};
use crate::interrupt::Interrupt;
use crate::spec;
use crate::state::{Root, State, Status};

/// What is to change; the rest stays.
#[derive(Debug, Default)]
pub struct Change {
    /// Of `linux.resources`, as JSON.
    pub resources: Value,
    /// Lines of `linux.intelRdt`.
    pub shares: Shares,
}

/// Shares of cache and memory bandwidth, as `linux.intelRdt` has them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shares {
    /// The cache's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// The memory bandwidth's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
}

/// The limits that hold, as they are on record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    resources: Value,
    #[serde(default)]
    intel_rdt: Shares,
}

/// Changes limits: all that are asked for, or none.
///
/// # Errors
/// The container does not run; the change is not valid, alone or with what holds; the kernel refuses
/// a part, after which the others are as they were, or the error names those that are not.
pub fn update(
    root: &Root,
    id: &str,
    change: Change,
    warn: &dyn Fn(&str),
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let held = Held::find(root, id, interrupt)?;
    held.expect("update", &[Status::Running, Status::Created, Status::Paused])?;
    let before = Limits::of(&held)?;
    let resources = spec::change_resources(&before.resources, change.resources)?;
    let rules = rules(&before.resources)?;
    let update = held.state.cgroup.update(&resources.asked, &rules)?;
    let shares = change.shares.lines();
    if !shares.is_empty() && held.state.resctrl.is_none() {
        let message = format!("container {id:?} has no shares of cache or memory bandwidth");
        return Err(Error::new(Kind::Other, message)
            .hint("only one that was created with $.linux.intelRdt has some that can be changed"));
    }
    resources.warnings.iter().for_each(|warning| warn(&warning.to_string()));
    update.warnings.iter().for_each(|warning| warn(warning));

    let after =
        Limits { resources: resources.whole, intel_rdt: change.shares.over(before.intel_rdt) };
    held.folder.prepare_limits(&serde_json::to_vec(&after).unwrap_or_default())?;
    let applied = update.apply().and_then(|undo| {
        let shares_set = match &held.state.resctrl {
            Some(resctrl) if !shares.is_empty() => resctrl.update(&shares),
            _ => Ok(()),
        };
        let done = shares_set.and_then(|()| held.folder.publish_limits());
        done.map_err(|error| undo.explained(error))
    });
    applied.inspect_err(|_| held.folder.discard_limits())
}

/// The `linux.resources` that hold for a container, as JSON.
///
/// # Errors
/// No such container.
pub fn resources(root: &Root, id: &str) -> Result<Value> {
    Limits::of(&Held::peek(root, id)?).map(|limits| limits.resources)
}

impl Limits {
    fn of(held: &Held) -> Result<Self> {
        let Some(text) = held.folder.limits()? else { return Self::of_config(&held.state) };
        serde_json::from_slice(&text).map_err(|error| {
            let message = format!("limits of container {:?}: {error}", held.folder.id());
            Error::new(Kind::Other, message).hint("delete the container with force")
        })
    }

    fn of_config(state: &State) -> Result<Self> {
        let spec = state.spec()?;
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let rdt = linux.and_then(|linux| linux.intel_rdt().as_ref());
        let intel_rdt = rdt.map_or_else(Shares::default, |rdt| Shares {
            l3_cache_schema: rdt.l3_cache_schema().clone(),
            mem_bw_schema: rdt.mem_bw_schema().clone(),
        });
        let none = || Value::Object(serde_json::Map::new());
        let resources = resources.map(|resources| serde_json::to_value(resources).ok());
        Ok(Limits { resources: resources.flatten().unwrap_or_else(none), intel_rdt })
    }
}

fn rules(resources: &Value) -> Result<Vec<LinuxDeviceCgroup>> {
    let (resources, _) = spec::check_resources(resources)?;
    Ok(resources.devices().clone().unwrap_or_default())
}

impl Shares {
    fn lines(&self) -> String {
        let lines = [&self.l3_cache_schema, &self.mem_bw_schema];
        lines.into_iter().flatten().map(|line| format!("{line}\n")).collect()
    }

    fn over(self, before: Self) -> Self {
        Shares {
            l3_cache_schema: self.l3_cache_schema.or(before.l3_cache_schema),
            mem_bw_schema: self.mem_bw_schema.or(before.mem_bw_schema),
        }
    }
}
