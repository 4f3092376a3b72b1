//! The extension module `rscontainer._core`: thin classes over the core.

#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
