//! `hooks`, as programs to run (config.md#posix-platform-hooks).

use std::ffi::CString;
use std::time::Duration;

use oci_spec::runtime::{Hook, Spec};
use serde::{Deserialize, Serialize};

use super::process::environment;
use super::step::{HookPoint, Step};
use super::{Compiler, c_path, c_string};
use crate::error::Result;

/// One program to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HookProgram {
    /// Absolute, in the runtime's namespace.
    pub path: CString,
    /// Its argument vector, its own name first.
    pub args: Vec<CString>,
    /// Its whole environment.
    pub env: Vec<CString>,
    /// Whether that is the program's, which is given HOME too.
    #[serde(default)]
    pub inherits: bool,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// The line of the config.
    pub asked_by: String,
}

/// All hooks by the moment at which they run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HookPrograms {
    /// `prestart`, then `createRuntime`: both run at the same moment.
    pub create_runtime: Vec<HookProgram>,
    /// In the container's namespaces, before pivot_root(2).
    pub create_container: Vec<HookProgram>,
    /// In the container, before its program.
    pub start_container: Vec<HookProgram>,
    /// After its program runs.
    pub poststart: Vec<HookProgram>,
    /// After it is deleted.
    pub poststop: Vec<HookProgram>,
}

impl HookPrograms {
    /// Reads the config's hooks.
    pub(super) fn of(spec: &Spec) -> Result<Self> {
        let Some(hooks) = spec.hooks() else { return Ok(HookPrograms::default()) };
        // In the container, with its program's variables where a hook has no word of its own.
        let inherited = spec.process().as_ref().map(environment).transpose()?;
        #[allow(deprecated, reason = "prestart is part of the specification, deprecated there too")]
        let mut create_runtime = programs(hooks.prestart(), "prestart", None)?;
        create_runtime.extend(programs(hooks.create_runtime(), "createRuntime", None)?);
        Ok(HookPrograms {
            create_runtime,
            create_container: programs(hooks.create_container(), "createContainer", None)?,
            start_container: programs(
                hooks.start_container(),
                "startContainer",
                inherited.as_deref(),
            )?,
            poststart: programs(hooks.poststart(), "poststart", None)?,
            poststop: programs(hooks.poststop(), "poststop", None)?,
        })
    }
}

fn programs(
    hooks: &Option<Vec<Hook>>,
    kind: &str,
    inherited: Option<&[CString]>,
) -> Result<Vec<HookProgram>> {
    hooks
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, hook)| program(hook, format!("$.hooks.{kind}[{index}]"), inherited))
        .collect()
}

fn program(hook: &Hook, asked_by: String, inherited: Option<&[CString]>) -> Result<HookProgram> {
    let list = |strings: Option<&Vec<String>>, name: &str| -> Result<Vec<CString>> {
        let strings = strings.into_iter().flatten();
        strings.map(|string| c_string(string, || format!("{asked_by}.{name}"))).collect()
    };
    let path = c_path(hook.path(), || format!("{asked_by}.path"))?;
    let mut args = list(hook.args().as_ref(), "args")?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let inherited = inherited.filter(|_| hook.env().is_none());
    let env = match inherited {
        Some(inherited) => inherited.to_vec(),
        None => list(hook.env().as_ref(), "env")?,
    };
    let timeout =
        hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    Ok(HookProgram { path, args, env, inherits: inherited.is_some(), timeout, asked_by })
}

impl Compiler<'_> {
    pub(super) fn hooks_before_pivot(&mut self) {
        if !self.hooks.create_runtime.is_empty() || !self.hooks.create_container.is_empty() {
            // They may look for the container in its cgroup.
            self.await_cgroup();
        }
        if !self.hooks.create_runtime.is_empty() {
            self.push(Step::Hooks(HookPoint::CreateRuntime), "$.hooks.createRuntime");
        }
        if !self.hooks.create_container.is_empty() {
            self.push(Step::Hooks(HookPoint::CreateContainer), "$.hooks.createContainer");
        }
    }
}
