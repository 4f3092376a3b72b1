//! Stand-in for the conversion of errors.

use crate::error::{Error, Kind};
use pyo3::PyErr;
use pyo3::exceptions::{PyFileExistsError, PyFileNotFoundError, PyOSError, PyRuntimeError};

/// The exception for an error.
pub(crate) fn to_py(error: Error) -> PyErr {
    let message = error.to_string();
    match error.kind() {
        Kind::NotFound => PyFileNotFoundError::new_err(message),
        Kind::AlreadyExists => PyFileExistsError::new_err(message),
        Kind::SystemCall => PyOSError::new_err(message),
        _ => PyRuntimeError::new_err(message),
    }
}
