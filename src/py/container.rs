//! A container: what clones goes to the launcher, the rest is done here.

use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use serde_json::value::RawValue;

use super::error::{blocking, to_py};
use super::events::{self, Events};
use super::process::{Home, Process};
use crate::container::{self, Change};
use crate::criu;
use crate::error::{Error, Kind, Result};
use crate::helper::client::{self, Caller, Started};
use crate::helper::{Ambient, ProcessRequest, Request, Verb};
use crate::process::duplicate;
use crate::state::Root;

/// A container by its id.
#[pyclass(frozen, module = "rscontainer._core")]
pub(super) struct Container {
    root: Root,
    id: String,
}

/// Standard streams as Python names them, by number.
type Stdio = (RawFd, RawFd, RawFd);

fn open_stdio(stdio: Stdio) -> PyResult<[OwnedFd; 3]> {
    let open = |number, name: &str| {
        duplicate(number).map_err(|errno| {
            to_py(Error::call("dup", format!("of descriptor {number} for {name}"), errno))
        })
    };
    Ok([open(stdio.0, "stdin")?, open(stdio.1, "stdout")?, open(stdio.2, "stderr")?])
}

fn call(py: Python<'_>, request: &Request, stdio: Stdio) -> PyResult<Started> {
    let [stdin, stdout, stderr] = open_stdio(stdio)?;
    blocking(py, |interrupt| {
        let stdio = [&stdin, &stdout, &stderr];
        client::call(request, stdio, &mut Caller { binary: &binary, interrupted: interrupt })
    })
}

/// The binary that was installed with this module.
fn binary() -> Result<PathBuf> {
    Python::attach(|py| {
        let found = py.import("rscontainer._binary")?.call_method0("binary")?;
        found.extract::<PathBuf>()
    })
    .map_err(|error: PyErr| Error::new(Kind::Other, format!("find the launcher: {error}")))
}

impl Container {
    fn home(&self) -> Home {
        Home { root: self.root.clone(), id: self.id.clone() }
    }

    fn request(&self, verb: Verb, attached: bool) -> Request {
        Request {
            root: self.root.path().to_owned(),
            id: self.id.clone(),
            verb,
            attached,
            ambient: Ambient::own(),
        }
    }
}

#[pymethods]
impl Container {
    #[staticmethod]
    #[pyo3(signature = (id, bundle, root, config, args, terminal, start, attached, stdio))]
    #[allow(clippy::too_many_arguments, reason = "called from one place, which names them all")]
    fn create(
        py: Python<'_>,
        id: String,
        bundle: PathBuf,
        root: Option<PathBuf>,
        config: Option<String>,
        args: Option<Vec<String>>,
        terminal: Option<bool>,
        start: bool,
        attached: bool,
        stdio: Stdio,
    ) -> PyResult<(Self, Process)> {
        let container = Container { root: open_root(root.as_deref())?, id };
        let config = raw_config(config)?;
        let bundle = std::path::absolute(bundle)?;
        let verb = Verb::Create { bundle, config, start, args, terminal };
        let started = call(py, &container.request(verb, attached), stdio)?;
        let process = Process::started(started, container.home());
        Ok((container, process))
    }

    #[staticmethod]
    #[pyo3(signature = (id, bundle, root, config, options, attached, stdio))]
    #[allow(clippy::too_many_arguments, reason = "called from one place, which names them all")]
    fn restore(
        py: Python<'_>,
        id: String,
        bundle: PathBuf,
        root: Option<PathBuf>,
        config: Option<String>,
        options: &str,
        attached: bool,
        stdio: Stdio,
    ) -> PyResult<(Self, Process)> {
        let container = Container { root: open_root(root.as_deref())?, id };
        let config = raw_config(config)?;
        let bundle = std::path::absolute(bundle)?;
        let options = Box::new(criu_options(options)?);
        let program = criu::Program::find().map_err(to_py)?;
        let verb = Verb::Restore { bundle, config, options, program };
        let started = call(py, &container.request(verb, attached), stdio)?;
        let process = Process::started(started, container.home());
        Ok((container, process))
    }

    #[staticmethod]
    #[pyo3(signature = (id, root))]
    fn load(id: String, root: Option<PathBuf>) -> PyResult<Self> {
        let container = Container { root: open_root(root.as_deref())?, id };
        container::status(&container.root, &container.id).map_err(to_py)?;
        Ok(container)
    }

    #[staticmethod]
    #[pyo3(signature = (root))]
    fn list(py: Python<'_>, root: Option<PathBuf>) -> PyResult<Vec<Self>> {
        let root = open_root(root.as_deref())?;
        let rows = py.detach(|| container::list(&root)).map_err(to_py)?;
        Ok(rows.into_iter().map(|row| Container { root: root.clone(), id: row.id }).collect())
    }

    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    #[getter]
    fn root(&self) -> &Path {
        self.root.path()
    }

    /// The OCI state as JSON.
    fn state(&self) -> PyResult<String> {
        container::state(&self.root, &self.id, |state| {
            // Strings and numbers: nothing that JSON has no form for.
            serde_json::to_string(&state).unwrap_or_default()
        })
        .map_err(to_py)
    }

    #[getter]
    fn status(&self) -> PyResult<&'static str> {
        let status = container::status(&self.root, &self.id).map_err(to_py)?;
        Ok(status.as_str())
    }

    /// The init of a container that was not created here; None once it has ended.
    fn find_init(&self) -> PyResult<Option<Process>> {
        let init = container::init(&self.root, &self.id).map_err(to_py)?;
        Ok(init.map(|(pid, pidfd)| Process::found(pid, pidfd, self.home())))
    }

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, |interrupt| container::start(&self.root, &self.id, interrupt))
    }

    /// The warnings.
    fn update(&self, py: Python<'_>, resources: &str) -> PyResult<Vec<String>> {
        let resources = serde_json::from_str(resources).map_err(|error| {
            to_py(Error::new(Kind::Spec, format!("the resources are not JSON: {error}")))
        })?;
        let warnings = Mutex::new(Vec::new());
        blocking(py, |interrupt| {
            let change = Change { resources, ..Change::default() };
            let warn = |warning: &str| {
                warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning.to_owned());
            };
            container::update(&self.root, &self.id, change, &warn, interrupt)
        })?;
        Ok(warnings.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The figures of this moment as JSON.
    fn stats(&self, py: Python<'_>) -> PyResult<String> {
        let stats = py.detach(|| container::stats(&self.root, &self.id)).map_err(to_py)?;
        // Numbers and names: nothing in it that JSON has no form for.
        Ok(serde_json::to_string(&stats).unwrap_or_default())
    }

    fn events(&self) -> PyResult<Events> {
        events::watch(&self.root, &self.id)
    }

    fn pids(&self, py: Python<'_>) -> PyResult<Vec<i32>> {
        py.detach(|| container::pids(&self.root, &self.id)).map_err(to_py)
    }

    /// The limits that hold, as JSON.
    fn resources(&self) -> PyResult<String> {
        let resources = container::resources(&self.root, &self.id).map_err(to_py)?;
        Ok(resources.to_string())
    }

    #[pyo3(signature = (args, env, cwd, user, terminal, cgroups, attached, stdio))]
    #[allow(clippy::too_many_arguments, reason = "called from one place, which names them all")]
    fn exec(
        &self,
        py: Python<'_>,
        args: Vec<String>,
        env: Option<Vec<String>>,
        cwd: Option<PathBuf>,
        user: Option<(u32, Option<u32>)>,
        terminal: bool,
        cgroups: Vec<String>,
        attached: bool,
        stdio: Stdio,
    ) -> PyResult<Process> {
        let process = ProcessRequest { args, env, cwd, user, terminal };
        let exec = Verb::Exec { process, cgroups };
        let started = call(py, &self.request(exec, attached), stdio)?;
        Ok(Process::started(started, self.home()))
    }

    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, |interrupt| container::pause(&self.root, &self.id, interrupt))
    }

    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, |interrupt| container::resume(&self.root, &self.id, interrupt))
    }

    fn kill(&self, py: Python<'_>, signal: &str, all: bool) -> PyResult<()> {
        let signal = container::signal_number(signal).map_err(to_py)?;
        py.detach(|| container::kill(&self.root, &self.id, signal, all)).map_err(to_py)
    }

    #[pyo3(signature = (options))]
    fn checkpoint(&self, py: Python<'_>, options: &str) -> PyResult<()> {
        let options = criu_options(options)?;
        blocking(py, |interrupt| container::checkpoint(&self.root, &self.id, &options, interrupt))
    }

    fn delete(&self, py: Python<'_>, force: bool) -> PyResult<()> {
        blocking(py, |interrupt| container::delete(&self.root, &self.id, force, interrupt))
    }
}

fn raw_config(json: Option<String>) -> PyResult<Option<Box<RawValue>>> {
    json.map(RawValue::from_string)
        .transpose()
        .map_err(|error| to_py(Error::new(Kind::Spec, format!("the config is not JSON: {error}"))))
}

/// Python's own words for them, as JSON.
fn criu_options(json: &str) -> PyResult<criu::Options> {
    serde_json::from_str(json).map_err(|error| {
        to_py(Error::new(Kind::Other, format!("the options of a checkpoint: {error}")))
    })
}

fn open_root(root: Option<&Path>) -> PyResult<Root> {
    Root::new(root).map_err(to_py)
}

/// Starts the launcher ahead of the first container, which otherwise pays for it.
#[pyfunction]
pub(super) fn start_launcher(py: Python<'_>) -> PyResult<()> {
    blocking(py, |interrupt| {
        client::ensure(&mut Caller { binary: &binary, interrupted: interrupt })
    })
}
