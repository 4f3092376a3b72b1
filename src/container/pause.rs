//! pause and resume: the freezer of the container's cgroup.

use super::Held;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::state::{Root, Status};

/// Freezes all processes of a container.
///
/// # Errors
/// The container does not run, or the host has no freezer.
pub fn pause(root: &Root, id: &str, interrupt: Interrupt<'_>) -> Result<()> {
    let held = Held::find(root, id, interrupt)?;
    held.expect("pause", &[Status::Running, Status::Created])?;
    held.state.cgroup.freeze()
}

/// Lets them run on.
///
/// # Errors
/// The container is not paused.
pub fn resume(root: &Root, id: &str, interrupt: Interrupt<'_>) -> Result<()> {
    let held = Held::find(root, id, interrupt)?;
    held.expect("resume", &[Status::Paused])?;
    held.state.cgroup.thaw()
}
