//! What `rscontainer.spec` asks of the core, as JSON both ways: the tree itself is Python's.

use std::path::PathBuf;

use pyo3::prelude::*;

use super::error::to_py;
use crate::plan::step::StartSignal;
use crate::plan::{Facts, Plan, Situation};
use crate::spec;

/// The default config as JSON.
#[pyfunction]
pub(super) fn default_spec(rootless: bool) -> String {
    spec::default_spec(rootless).to_string()
}

/// The warnings about a config; raises SpecError if it breaks a rule.
#[pyfunction]
pub(super) fn validate_spec(json: &str) -> PyResult<Vec<String>> {
    let (_, warnings) = spec::check(json.as_bytes()).map_err(to_py)?;
    Ok(warnings.iter().map(ToString::to_string).collect())
}

/// The plan of a config in a bundle's folder, one step a line.
#[pyfunction]
pub(super) fn explain_spec(json: &str, bundle: PathBuf) -> PyResult<String> {
    let (spec, _) = spec::check(json.as_bytes()).map_err(to_py)?;
    let situation = Situation::new("ID", std::path::absolute(bundle)?, StartSignal::Parent);
    let facts = Facts::probe().map_err(to_py)?;
    let plan = Plan::compile(&spec, &facts, &situation).map_err(to_py)?;
    Ok(plan.to_string())
}

/// The features structure as JSON.
#[pyfunction]
pub(super) fn features() -> String {
    crate::features::features().to_string()
}

/// Bytes from how people write them; `what` is named in errors.
#[pyfunction]
pub(super) fn number_of_bytes(what: &str, text: &str) -> PyResult<i64> {
    spec::bytes(what, text).map_err(to_py)
}
