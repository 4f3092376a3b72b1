//! The rules of the specification that need no host to be checked.
//!
//! Where the specification is silent and a config would fail later, or not do
//! what it says, the rule is runc's, so that a config that runs there runs here.

mod hooks;
mod linux;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;
mod sysctl;
mod version;

use std::fmt::Display;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Process, Spec};
use serde::Serialize;

pub use sysctl::sysctl_path;
pub use version::{NEWEST_VERSION, OLDEST_VERSION};

use super::{Warning, parse, parse_list, section};
use crate::{Error, Result};

/// Checks every rule for Linux that can be checked without the host.
///
/// # Errors
///
/// [`Kind::Spec`](crate::Kind::Spec) for the first rule that is broken, with the
/// JSON path, the value and the section.
pub fn validate(spec: &Spec) -> Result<Vec<Warning>> {
    let mut warnings = Warnings::default();
    version::validate(spec.version(), &mut warnings)?;
    root(spec)?;
    process::validate(spec, &mut warnings)?;
    names(spec)?;
    mounts::validate(spec, &mut warnings)?;
    hooks::validate(spec)?;
    annotations(spec)?;
    if let Some(linux) = spec.linux() {
        linux::validate(linux, &mut warnings)?;
        namespaces::validate(spec, linux)?;
        if let Some(resources) = linux.resources() {
            resources::validate(resources, &mut warnings)?;
        }
        if let Some(seccomp) = linux.seccomp() {
            seccomp::validate(seccomp, &mut warnings)?;
        }
        sysctl::validate(linux)?;
    }
    Ok(warnings.0)
}

/// Checks a process that is to join a running container.
///
/// # Errors
///
/// As [`validate`].
pub fn validate_process(process: &Process) -> Result<Vec<Warning>> {
    let mut warnings = Warnings::default();
    process::check(process, &mut warnings)?;
    Ok(warnings.0)
}

/// Checks limits that are to hold for a running container.
///
/// # Errors
///
/// As [`validate`].
pub fn validate_resources(resources: &LinuxResources) -> Result<Vec<Warning>> {
    let mut warnings = Warnings::default();
    resources::validate(resources, &mut warnings)?;
    Ok(warnings.0)
}

/// The warnings so far.
#[derive(Default)]
struct Warnings(Vec<Warning>);

impl Warnings {
    fn add(&mut self, path: impl Display, message: impl Into<String>) {
        self.0.push(Warning { path: path.to_string(), message: message.into() });
    }
}

/// A broken rule; the caller formats the path only on this way out.
fn fault(path: impl Display, value: impl Serialize, message: impl Into<String>) -> Error {
    let path = path.to_string();
    let section = section::of(&path);
    Error::spec(path, serde_json::to_string(&value).ok(), section, message)
}

fn missing(path: impl Display) -> Error {
    let path = path.to_string();
    let section = section::of(&path);
    Error::spec(path, None, section, "the required property is missing")
}

/// Strings end up as C strings, where a NUL byte would cut them short.
fn no_nul(path: impl Display, text: &str) -> Result<()> {
    match text.bytes().position(|byte| byte == 0) {
        Some(at) => Err(fault(path, text, format!("must not contain a NUL byte (at byte {at})"))),
        None => Ok(()),
    }
}

fn no_nul_each(path: impl Display, texts: Option<&[String]>) -> Result<()> {
    for (index, text) in texts.unwrap_or_default().iter().enumerate() {
        no_nul(format_args!("{path}[{index}]"), text)?;
    }
    Ok(())
}

fn absolute(path: impl Display, value: &Path) -> Result<()> {
    if !value.is_absolute() {
        return Err(fault(path, value, "must be an absolute path"));
    }
    no_nul(path, &value.to_string_lossy())
}

/// More than any kernel is built for: `NR_CPUS`, `MAX_NUMNODES`.
pub const MOST_PROCESSORS: u32 = (1 << 16) - 1;
/// As [`MOST_PROCESSORS`], of memory nodes.
pub const MOST_NODES: u32 = (1 << 10) - 1;

fn list(path: impl Display, text: &str, most: u32) -> Result<()> {
    parse_list(text, most).map(drop).map_err(|what| fault(path, text, format!("must {what}")))
}

fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    spec.linux().as_ref().is_some_and(|linux| namespaces::find(linux, kind).is_some())
}

fn root(spec: &Spec) -> Result<()> {
    let Some(root) = spec.root() else { return Err(missing("$.root")) };
    if root.path().as_os_str().is_empty() {
        return Err(missing("$.root.path"));
    }
    no_nul("$.root.path", &root.path().to_string_lossy())
}

/// The kernel's limit for both, `__NEW_UTS_LEN`.
const LONGEST_NAME: usize = 64;

fn names(spec: &Spec) -> Result<()> {
    let names = [("$.hostname", spec.hostname()), ("$.domainname", spec.domainname())];
    for (path, name) in names {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else { continue };
        if name.len() > LONGEST_NAME {
            let message = format!("must not be longer than {LONGEST_NAME} bytes");
            return Err(fault(path, name, message));
        }
        no_nul(path, name)?;
        if !has_namespace(spec, LinuxNamespaceType::Uts) {
            return Err(fault(path, name, "needs a uts namespace, or the host would be renamed")
                .hint("add {\"type\": \"uts\"} to $.linux.namespaces"));
        }
    }
    Ok(())
}

fn annotations(spec: &Spec) -> Result<()> {
    match spec.annotations().as_ref().and_then(|annotations| annotations.get("")) {
        Some(value) => {
            let path = parse::join("$.annotations", "");
            Err(fault(path, value, "the key must not be empty"))
        }
        None => Ok(()),
    }
}
