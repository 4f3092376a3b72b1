//! What happens to a container, one event at a time.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use super::error::{blocking, to_py};
use crate::cgroup::Change;
use crate::container::{self, Awaited, Event};
use crate::state::Root;

/// A container that is watched.
#[pyclass(frozen, module = "rscontainer._core")]
pub(super) struct Events(Mutex<container::Events>);

#[pymethods]
impl Events {
    /// The next one's name and how often it happened; None when there will be no more.
    fn next(&self, py: Python<'_>) -> PyResult<Option<(&'static str, u64)>> {
        let awaited = blocking(py, |interrupt| {
            // A panic while it was held left whole values behind.
            let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            events.next(None, interrupt)
        })?;
        Ok(match awaited {
            Awaited::Event(Event::Cgroup(Change::Oom(count))) => Some(("oom", count)),
            Awaited::Event(Event::Cgroup(Change::OomKill(count))) => Some(("oom_kill", count)),
            Awaited::Event(Event::Cgroup(Change::Frozen)) => Some(("frozen", 1)),
            Awaited::Event(Event::Cgroup(Change::Thawed)) => Some(("thawed", 1)),
            Awaited::Event(Event::Exit) => Some(("exit", 1)),
            Awaited::Nothing | Awaited::Over => None,
        })
    }
}

/// Begins to watch.
pub(super) fn watch(root: &Root, id: &str) -> PyResult<Events> {
    container::events(root, id).map(|events| Events(Mutex::new(events))).map_err(to_py)
}
