//! The lifecycle, one verb a file (runtime.md#lifecycle).
//!
//! Verbs that clone (`create`, `exec`) want the proof that this process has
//! one thread; the others may be called from anywhere, Python too.

mod checkpoint;
mod config;
mod create;
mod delete;
mod events;
mod exec;
mod kill;
mod list;
mod notify;
mod pause;
mod pids;
mod restore;
mod start;
mod stats;
mod update;

pub use checkpoint::checkpoint;
pub use config::Config;
pub(crate) use create::now;
pub use create::{Creation, Furnish, Running, create};
pub use delete::{Created, delete, delete_remains, has_remains};
pub use events::{Awaited, Event, Events, events};
pub use exec::{Execution, exec};
pub use kill::{kill, signal_number};
pub use list::{Summary, init, list, state, status};
pub use pause::{pause, resume};
pub use pids::pids;
pub use restore::{Restoration, restore};
pub use start::start;
pub use stats::{Interface, Snapshot, oom_kills, stats};
pub use update::{Change, Shares, resources, update};

use crate::error::{Error, Kind, Result};
use crate::interrupt::Interrupt;
use crate::state::{Folder, Root, State, Status};

/// A container, its lock held, its state read.
pub(crate) struct Held {
    pub(crate) folder: Folder,
    pub(crate) state: State,
    pub(crate) status: Status,
}

impl Held {
    /// Finds a container for a verb that changes it.
    pub(crate) fn find(root: &Root, id: &str, interrupt: Interrupt<'_>) -> Result<Self> {
        Self::read(root.find_locked(id, interrupt)?)
    }

    /// Finds a container for a verb that looks at it.
    pub(crate) fn peek(root: &Root, id: &str) -> Result<Self> {
        Self::read(root.find(id)?)
    }

    fn read(folder: Folder) -> Result<Self> {
        let state = folder.read()?;
        let status = folder.status(state.as_ref());
        match state {
            Some(state) => Ok(Held { folder, state, status }),
            None if status == Status::Creating => {
                let message = format!("container {:?} is being created", folder.id());
                Err(Error::new(Kind::State, message))
            }
            None => Err(Error::new(
                Kind::State,
                format!("container {:?} was not created to the end", folder.id()),
            )
            .hint("delete it")),
        }
    }

    /// Refuses a verb in the wrong status.
    pub(crate) fn expect(&self, verb: &str, allowed: &[Status]) -> Result<()> {
        if allowed.contains(&self.status) {
            return Ok(());
        }
        let needed: Vec<&str> = allowed.iter().map(|status| status.as_str()).collect();
        let (id, is) = (self.folder.id(), self.status.as_str());
        let needed = needed.join(" or ");
        let why = match (verb, self.status) {
            // runc's words: by these containerd tells that there is nothing left to kill.
            ("kill", Status::Stopped) => "it is stopped (container not running)".to_owned(),
            _ => format!("it is {is}, and must be {needed}"),
        };
        let error = Error::new(Kind::State, format!("cannot {verb} container {id:?}: {why}"));
        Err(match (verb, self.status) {
            ("resume", Status::Running) => error.hint("there is nothing to resume"),
            ("delete", _) => error.hint("kill it first, or delete it with force"),
            (_, Status::Paused) => error.hint("resume it first"),
            (_, Status::Created) => error.hint("start it first"),
            (_, Status::Stopped) => error.hint("delete it and create it anew"),
            _ => error,
        })
    }
}
