//! The extension module `rscontainer._core`: thin classes over the core.

mod bundle;
mod communicate;
mod container;
mod error;
mod events;
mod process;
mod spec;

#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::bundle::{
        bundle_discard, bundle_existing, bundle_prepare, bundle_publish, busybox_rootfs, copy_tree,
        unpack, unpack_file,
    };
    #[pymodule_export]
    use super::communicate::Communication;
    #[pymodule_export]
    use super::container::{Container, start_launcher};
    #[pymodule_export]
    use super::events::Events;
    #[pymodule_export]
    use super::process::{Process, resize_terminal};
    #[pymodule_export]
    use super::spec::{default_spec, explain_spec, features, number_of_bytes, validate_spec};
}
