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
pub mod error;
#[cfg(feature = "python")]
pub mod image;
pub mod spec;
pub mod sys;

pub use error::{Error, Kind, Result};

#[cfg(feature = "python")]
mod py;
