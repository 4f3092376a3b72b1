//! pids: who is in a container.

use super::Held;
use super::kill::processes_of_namespace;
use crate::error::Result;
use crate::state::Root;

/// The numbers of its processes on the host, sorted; none once it has ended.
///
/// # Errors
/// No such container; nothing tells its processes from others.
pub fn pids(root: &Root, id: &str) -> Result<Vec<i32>> {
    let held = Held::peek(root, id)?;
    if !held.state.cgroup.directories().is_empty() {
        let pids = held.state.cgroup.pids()?;
        return Ok(pids.into_iter().map(|pid| pid.as_raw()).collect());
    }
    let mut pids = Vec::new();
    processes_of_namespace(&held, |pid, _| {
        pids.push(pid);
        Ok(())
    })?;
    pids.sort_unstable();
    Ok(pids)
}
