//! state and list: what is known of containers.

use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::thread;

use serde::Serialize;

use super::Held;
use crate::error::{Kind, Result};
use crate::state::{OciState, Root, Status, pidfd_of, user_name};

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

/// The OCI state of a container (runtime.md#query-state), in the form that is asked for.
///
/// # Errors
/// No such container.
pub fn state(root: &Root, id: &str, form: impl FnOnce(OciState<'_>) -> String) -> Result<String> {
    let held = Held::peek(root, id)?;
    Ok(form(held.state.to_oci(held.status)))
}

/// The status of a container.
///
/// # Errors
/// No such container.
pub fn status(root: &Root, id: &str) -> Result<Status> {
    Held::peek(root, id).map(|held| held.status)
}

/// Fewer containers than these are seen sooner than a thread starts.
const SHARE: usize = 100;

/// All containers, sorted by id; one that is deleted meanwhile is left out.
///
/// # Errors
/// The folder of states cannot be read.
pub fn list(root: &Root) -> Result<Vec<Summary>> {
    let ids = root.ids()?;
    let threads = match ids.len() / SHARE {
        0 | 1 => 1,
        most => thread::available_parallelism().map_or(1, usize::from).min(most),
    };
    let mut shares = ids.chunks(ids.len().div_ceil(threads).max(1));
    let own = shares.next().unwrap_or_default();
    Ok(thread::scope(|scope| {
        let begin = |ids| thread::Builder::new().spawn_scoped(scope, move || summaries(root, ids));
        let others: Vec<_> = shares.map(|ids| (ids, begin(ids))).collect();
        let mut rows = summaries(root, own);
        for (ids, other) in others {
            rows.extend(match other {
                Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
                // Who may have no further thread looks at them alone.
                Err(_) => summaries(root, ids),
            });
        }
        rows
    }))
}

fn summaries(root: &Root, ids: &[String]) -> Vec<Summary> {
    ids.iter().filter_map(|id| summary(root, id)).collect()
}

fn summary(root: &Root, id: &str) -> Option<Summary> {
    match Held::peek(root, id) {
        Ok(Held { state, status, .. }) => Some(Summary {
            oci_version: state.oci_version,
            id: id.to_owned(),
            pid: if status == Status::Stopped { 0 } else { state.init.pid },
            status,
            bundle: state.bundle.display().to_string(),
            rootfs: state.rootfs.display().to_string(),
            created: state.created,
            owner: user_name(state.owner),
        }),
        Err(error) => {
            if !matches!(error.kind(), Kind::NotFound | Kind::State) {
                crate::warn(&error.to_string());
            }
            None
        }
    }
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
