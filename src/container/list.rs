//! state and list: what is known of containers.

use std::os::fd::OwnedFd;

use serde::Serialize;

use super::Held;
use crate::error::{Kind, Result};
use crate::state::{Root, Status, pidfd_of};

/// One row of `list`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Of the config.
    pub oci_version: String,
    /// Its name.
    pub id: String,
    /// Its init on the host; 0 once stopped.
    pub pid: i32,
    /// Its status.
    pub status: Status,
    /// Its bundle.
    pub bundle: String,
    /// Its rootfs.
    pub rootfs: String,
    /// When it was created, as RFC 3339.
    pub created: String,
    /// Who created it.
    pub owner: String,
}

/// The OCI state of a container as JSON (runtime.md#query-state).
///
/// # Errors
/// No such container.
pub fn state(root: &Root, id: &str) -> Result<(serde_json::Value, Status)> {
    let held = Held::peek(root, id)?;
    let state = serde_json::to_value(held.state.to_oci(held.status)).unwrap_or_default();
    Ok((state, held.status))
}

/// All containers, sorted by id; one that is deleted meanwhile is left out.
///
/// # Errors
/// The folder of states cannot be read.
pub fn list(root: &Root) -> Result<Vec<Summary>> {
    let mut rows = Vec::new();
    for id in root.ids()? {
        match Held::peek(root, &id) {
            Ok(held) => {
                let stopped = held.status == Status::Stopped;
                rows.push(Summary {
                    oci_version: held.state.oci_version,
                    id,
                    pid: if stopped { 0 } else { held.state.init.pid },
                    status: held.status,
                    bundle: held.state.bundle.display().to_string(),
                    rootfs: held.state.rootfs.display().to_string(),
                    created: held.state.created,
                    owner: crate::state::user_name(held.state.owner),
                });
            }
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::State) => {}
            Err(error) => crate::warn(&error.to_string()),
        }
    }
    Ok(rows)
}

/// The init of a container that has not ended, by number and descriptor.
///
/// # Errors
/// No such container.
pub fn init(root: &Root, id: &str) -> Result<Option<(i32, OwnedFd)>> {
    let held = Held::peek(root, id)?;
    // One that has ended this very moment has no descriptor any more.
    Ok(pidfd_of(held.state.init).ok().map(|pidfd| (held.state.init.pid, pidfd)))
}
