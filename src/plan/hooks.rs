//! `hooks`, as programs to run (config.md#posix-platform-hooks).

use std::ffi::CString;
use std::time::Duration;

use oci_spec::runtime::{Hook, Spec};
use serde::{Deserialize, Serialize};

use super::{c_path, c_string};
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
        let mut create_runtime = programs(hooks.prestart().as_deref(), "prestart")?;
        create_runtime.extend(programs(hooks.create_runtime().as_deref(), "createRuntime")?);
        Ok(HookPrograms {
            create_runtime,
            create_container: programs(hooks.create_container().as_deref(), "createContainer")?,
            start_container: programs(hooks.start_container().as_deref(), "startContainer")?,
            poststart: programs(hooks.poststart().as_deref(), "poststart")?,
            poststop: programs(hooks.poststop().as_deref(), "poststop")?,
        })
    }
}

fn programs(hooks: Option<&[Hook]>, kind: &str) -> Result<Vec<HookProgram>> {
    let hooks = hooks.unwrap_or_default();
    hooks
        .iter()
        .enumerate()
        .map(|(index, hook)| program(hook, format!("$.hooks.{kind}[{index}]")))
        .collect()
}

fn program(hook: &Hook, asked_by: String) -> Result<HookProgram> {
    let list = |strings: &Option<Vec<String>>, name: &str| -> Result<Vec<CString>> {
        let strings = strings.iter().flatten();
        strings.map(|string| c_string(string, || format!("{asked_by}.{name}"))).collect()
    };
    let path = c_path(hook.path(), || format!("{asked_by}.path"))?;
    let mut args = list(hook.args(), "args")?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let env = list(hook.env(), "env")?;
    let timeout =
        hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    Ok(HookProgram { path, args, env, timeout, asked_by })
}
