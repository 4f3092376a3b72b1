//! What `rscontainer.spec` asks of the core, as JSON both ways: the tree itself is Python's.

use pyo3::prelude::*;

use super::error::to_py;
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
