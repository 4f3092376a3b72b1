//! The extension module `rscontainer._core`: thin classes over the core.

mod error;
mod spec;

#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    use super::error::SpecError;
    #[pymodule_export]
    use super::spec::{default_spec, validate_spec};
}
