//! `events`: figures, and what happens to a container, a line of JSON each.

use super::{figures, print};
use crate::container;
use crate::error::{Error, Kind, Result};
use crate::state::{Root, Status};

pub(super) fn events(root: &Root, id: &str, _interval: &str, _once: bool) -> Result<()> {
    let (_, status) = container::state(root, id)?;
    if status == Status::Stopped {
        return Err(Error::new(Kind::State, format!("container {id:?} is stopped")));
    }
    let snapshot = container::stats(root, id)?;
    print(&figures::event("stats", id, Some(figures::data(&snapshot))));
    Ok(())
}
