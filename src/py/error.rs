//! The core's error as Python's exceptions, which `rscontainer/errors.py` defines.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;

use crate::error::{Error, Kind, Result};
use crate::interrupt::Interrupt;

/// The exception for an error.
pub(super) fn to_py(error: Error) -> PyErr {
    Python::attach(|py| exception(py, &error).unwrap_or_else(|failed| failed))
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module =
        ERRORS.get_or_try_init(py, || py.import("rscontainer.errors").map(Bound::unbind))?.bind(py);
    let name = match error.kind() {
        Kind::Spec => intern!(py, "SpecError"),
        Kind::NotFound => intern!(py, "NotFoundError"),
        Kind::AlreadyExists => intern!(py, "AlreadyExistsError"),
        Kind::State => intern!(py, "StateError"),
        Kind::SystemCall => intern!(py, "SystemCallError"),
        Kind::Other => intern!(py, "ContainerError"),
    };
    let exception = module.getattr(name)?.call1((error.to_string(),))?;
    if let (Kind::Spec, Some(property)) = (error.kind(), error.property()) {
        exception.setattr("path", &property.path)?;
        exception.setattr("value", &property.value)?;
        exception.setattr("section", &property.section)?;
    }
    if let (Kind::SystemCall, Some(call)) = (error.kind(), error.system_call()) {
        exception.setattr("errno", call.errno)?;
        exception.setattr("call", &call.name)?;
        exception.setattr("path", &call.path)?;
        exception.setattr("step", &call.step)?;
        exception.setattr("asked_by", error.property().map(|property| property.path.as_str()))?;
    }
    Ok(PyErr::from_value(exception))
}

/// Works without Python's lock; a signal interrupts a wait if Python raises for it.
pub(super) fn blocking<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(Interrupt<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let done = py.detach(|| {
        work(&mut || {
            Python::attach(|py| py.check_signals()).map_err(|error| {
                raised = Some(error);
                Error::new(Kind::Other, "interrupted")
            })
        })
    });
    match raised {
        Some(raised) => Err(raised),
        None => done.map_err(to_py),
    }
}
