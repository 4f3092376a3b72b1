//! An OCI container runtime in the process.
//!
//! ```text
//! config.json ─► Spec ─► Plan ─► init (the child: runs the steps, execs the program)
//!                         └────► launch (the clone's parent: id maps, cgroup, handshake)
//!                                  └─► state on disk ─► start · exec · pause · kill · delete
//! ```
//!
//! `ARCHITECTURE.md` is the map. The vocabulary is the runtime specification's.

pub mod cgroup;
pub mod container;
pub mod criu;
pub mod error;
pub mod features;
pub mod helper;
pub mod hooks;
#[cfg(feature = "python")]
pub mod image;
pub mod init;
pub mod interrupt;
pub mod launch;
pub mod plan;
pub mod process;
pub mod resctrl;
pub mod spec;
pub mod state;
pub mod sys;
pub mod terminal;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "python")]
mod py;

pub use error::{Error, Kind, Result};

/// Who hears of warnings, instead of whoever reads standard error.
static LISTENER: std::sync::OnceLock<fn(&str)> = std::sync::OnceLock::new();

/// Says what the specification wants reported and not refused, to who listens or on standard error.
///
/// Not on both: under an engine, which reads the log, standard error is the container's own.
pub(crate) fn warn(message: &str) {
    use std::io::Write;
    match LISTENER.get() {
        Some(listener) => listener(message),
        // With nobody to hear it there is nothing to be done.
        None => drop(writeln!(std::io::stderr(), "rscontainer: warning: {message}")),
    }
}

/// Who hears what is being done.
static DEBUG: std::sync::OnceLock<fn(&dyn std::fmt::Display)> = std::sync::OnceLock::new();

/// Says what is being done, where somebody asked to hear it; only then is it put into words.
pub(crate) fn debug(what: &dyn std::fmt::Display) {
    if let Some(listener) = DEBUG.get() {
        listener(what);
    }
}

/// Has what is being done told to the first who asks.
#[cfg(feature = "cli")]
pub(crate) fn hear_debug(listener: fn(&dyn std::fmt::Display)) {
    let _ = DEBUG.set(listener);
}

/// Has warnings told to the first who asks.
#[cfg(feature = "cli")]
pub(crate) fn hear_warnings(listener: fn(&str)) {
    let _ = LISTENER.set(listener);
}

/// A path for the kernel.
pub(crate) fn path_c_string(path: &std::path::Path) -> Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    sys::path::c_string(path.as_os_str().as_bytes())
        .map_err(|errno| Error::path_call("open", path, errno).hint("a path has no NUL byte"))
}
