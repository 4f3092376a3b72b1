//! `config.json` as written: parsed, validated, never interpreted.
//!
//! Nothing here looks at the host, so the same bytes always give the same
//! answer; what depends on the host is decided by the plan. The one exception
//! is [`default_spec`], which writes a config for the host it runs on.

mod amount;
mod change;
mod default;
mod further;
mod list;
mod names;
mod parse;
mod repair;
mod section;
mod strict;
#[cfg(test)]
mod tests;
mod validate;

use std::fmt;

use oci_spec::runtime::Spec;

pub use amount::bytes;
pub use change::{ResourcesChange, change_resources};
pub use default::{Host, default_spec, default_spec_for};
pub use further::{check_process, check_resources, inherit};
pub use list::parse_list;
pub(crate) use names::names;
pub(crate) use parse::join;
pub use parse::{MAX_SIZE, parse, parse_with_warnings};
pub use validate::{
    MOST_NODES, MOST_PROCESSORS, NEWEST_VERSION, OLDEST_VERSION, sysctl_path, validate,
    validate_process, validate_resources,
};

use crate::Result;
use crate::error::{Error, Property};

/// Something in the config that works, but perhaps not as its author hoped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The JSON path of the property, `$.mounts[2].destination`.
    pub path: String,
    /// What is odd about it, in lower case and without a full stop.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Parses and validates; the warnings of both come back with the config.
///
/// # Errors
///
/// As [`parse`] and [`validate`].
pub fn check(json: &[u8]) -> Result<(Spec, Vec<Warning>)> {
    let (spec, mut warnings) = parse_with_warnings(json)?;
    warnings.extend(validate(&spec).map_err(|error| explained(error, &warnings))?);
    Ok((spec, warnings))
}

/// A set of capabilities may lack just what was left out of another one, and nobody hears of that
/// but here.
fn explained(error: Error, left_out: &[Warning]) -> Error {
    let about = |property: &Property| property.path.starts_with("$.process.capabilities");
    if !error.property().is_some_and(about) {
        return error;
    }
    let mut messages: Vec<&str> = left_out.iter().map(|it| it.message.as_str()).collect();
    messages.dedup();
    if messages.is_empty() { error } else { error.hint(messages.join("; ")) }
}
