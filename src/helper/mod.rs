//! Python never forks: it asks the launcher, a process of the small static
//! binary that it starts once, on first use.
//!
//! - [`client`] is the side in Python's process;
//! - [`server`] is the launcher: it starts workers and reaps containers;
//! - `worker` serves one request in a process of its own, by the same code that
//!   the command line runs.

pub mod client;
mod request;
#[cfg(feature = "cli")]
pub mod server;
#[cfg(feature = "cli")]
mod worker;

pub use request::{Ambient, ProcessRequest, Request, Verb};

/// What the launcher says first, so that a module never talks to another version's.
pub(crate) const GREETING: &str = concat!("rscontainer ", env!("CARGO_PKG_VERSION"));
/// The argument that makes the binary a launcher.
pub const LAUNCHER: &str = "launcher";
