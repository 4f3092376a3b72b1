//! Parts of a config for a container that runs, read on their own: a process that is to join it,
//! completed from the container's, and limits.

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{
    MAX_SIZE, Warning, explained, parse_with_warnings, validate_process, validate_resources,
};
use crate::{Error, Result};

/// Parses and validates a `process` on its own, as `exec --process` takes it; in errors it is
/// `$.process`.
///
/// # Errors
///
/// As [`super::check`].
pub fn check_process(json: &[u8]) -> Result<(Process, Vec<Warning>)> {
    if json.len() > MAX_SIZE {
        return Err(Error::new(crate::Kind::Spec, "the process is too long to be one"));
    }
    // One value and nothing after it: what goes around it cannot be closed from inside.
    let process: &RawValue = serde_json::from_slice(json).map_err(|error| {
        Error::spec("$.process", None, "config.md#process", format!("is not JSON: {error}"))
    })?;
    let config = format!("{{\"ociVersion\":\"1.0.0\",\"process\":{process}}}");
    let (spec, mut warnings) = parse_with_warnings(config.as_bytes())?;
    let Some(process) = spec.process().clone() else {
        return Err(Error::spec("$.process", None, "config.md#process", "must be an object"));
    };
    warnings.extend(validate_process(&process).map_err(|error| explained(error, &warnings))?);
    Ok((process, warnings))
}

/// Parses and validates `resources` on their own; in errors they are `$.linux.resources`.
///
/// # Errors
///
/// As [`super::check`].
pub fn check_resources(resources: &Value) -> Result<(LinuxResources, Vec<Warning>)> {
    let config = format!("{{\"ociVersion\":\"1.0.0\",\"linux\":{{\"resources\":{resources}}}}}");
    let (spec, mut warnings) = parse_with_warnings(config.as_bytes())?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    let resources = resources.unwrap_or_default();
    warnings.extend(validate_resources(&resources)?);
    Ok((resources, warnings))
}

/// Takes from the container's process what this one does not say: else it would run in the
/// container with less of its confinement than the rest. So does runc.
pub fn inherit(process: &mut Process, spec: &Spec) {
    let Some(container) = spec.process() else { return };
    if process.capabilities().is_none() {
        process.set_capabilities(container.capabilities().clone());
    }
    if process.no_new_privileges().is_none() {
        process.set_no_new_privileges(container.no_new_privileges());
    }
    if process.apparmor_profile().as_deref().is_none_or(str::is_empty) {
        process.set_apparmor_profile(container.apparmor_profile().clone());
    }
    if process.selinux_label().as_deref().is_none_or(str::is_empty) {
        process.set_selinux_label(container.selinux_label().clone());
    }
    if process.rlimits().as_deref().is_none_or(<[_]>::is_empty) {
        process.set_rlimits(container.rlimits().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*container.io_priority());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(container.scheduler().clone());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(container.exec_cpu_affinity().clone());
    }
}
