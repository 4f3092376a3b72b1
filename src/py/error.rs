//! The exceptions.

use pyo3::PyErr;

pyo3::create_exception!(rscontainer, SpecError, pyo3::exceptions::PyException);

/// The exception for an error.
pub(super) fn to_py(error: crate::Error) -> PyErr {
    SpecError::new_err(error.to_string())
}
