//! `hooks`, as programs to run (config.md#posix-platform-hooks).

use std::ffi::CString;
use std::time::Duration;

use oci_spec::runtime::{Hook, Spec};
use serde::{Deserialize, Serialize};

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
    /// Its whole environment; none for that of whoever runs it.
    pub env: Option<Vec<CString>>,
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
        #[allow(deprecated, reason = "prestart is part of the specification, deprecated there too")]
        let mut create_runtime = programs(hooks.prestart(), "prestart")?;
        create_runtime.extend(programs(hooks.create_runtime(), "createRuntime")?);
        Ok(HookPrograms {
            create_runtime,
            create_container: programs(hooks.create_container(), "createContainer")?,
            start_container: programs(hooks.start_container(), "startContainer")?,
            poststart: programs(hooks.poststart(), "poststart")?,
            poststop: programs(hooks.poststop(), "poststop")?,
        })
    }
}

fn programs(hooks: &Option<Vec<Hook>>, kind: &str) -> Result<Vec<HookProgram>> {
    hooks
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, hook)| program(hook, format!("$.hooks.{kind}[{index}]")))
        .collect()
}

fn program(hook: &Hook, asked_by: String) -> Result<HookProgram> {
    let list = |strings: &[String], name: &str| -> Result<Vec<CString>> {
        strings.iter().map(|string| c_string(string, || format!("{asked_by}.{name}"))).collect()
    };
    let path = c_path(hook.path(), || format!("{asked_by}.path"))?;
    let mut args = list(hook.args().as_deref().unwrap_or_default(), "args")?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let env = hook.env().as_deref().map(|env| list(env, "env")).transpose()?;
    let timeout =
        hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    Ok(HookProgram { path, args, env, timeout, asked_by })
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
