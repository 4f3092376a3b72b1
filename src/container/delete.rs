//! delete: everything that was made for a container is taken away.

use std::time::{Duration, Instant};

use super::Held;
use crate::error::{Error, Kind, Result};
use crate::hooks;
use crate::interrupt::{self, Interrupt, never};
use crate::resctrl::Resctrl;
use crate::state::{Folder, ProcessId, Root, State, Status, pidfd_of};
use crate::sys::pidfd;

/// How long a killed container may take to end: its init waits for the kernel to end the rest.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes a stopped container, or one that is created and not started; with `force`, any.
///
/// # Errors
/// No such container, unless `force`; it runs, unless `force`; what was made for it cannot be
/// taken away.
pub fn delete(root: &Root, id: &str, force: bool, interrupt: Interrupt<'_>) -> Result<()> {
    let folder = match root.find_locked(id, interrupt) {
        Err(error) if force && error.kind() == Kind::NotFound => return Ok(()),
        folder => folder?,
    };
    let state = match folder.read() {
        // Nothing is known of what it had: its folder is all that can be taken away.
        Err(_) if force => None,
        state => state?,
    };
    remove(folder, state, force, interrupt)
}

/// Deletes what is left of a container that had this init, unless the id is another's by now.
///
/// # Errors
/// What was made for it cannot be taken away.
pub fn delete_remains(root: &Root, id: &str, init: ProcessId) -> Result<()> {
    let folder = match root.find_locked(id, &mut never) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(()),
        folder => folder?,
    };
    let state = folder.read().unwrap_or_default();
    if !is_of(state.as_ref(), init) {
        return Ok(());
    }
    remove(folder, state, true, &mut never)
}

/// A container in the hands of who created it.
#[derive(Debug)]
pub struct Created {
    folder: Folder,
    state: State,
}

impl Created {
    /// Of a container that was created to the end, which others may change from now on.
    pub(super) fn new(folder: Folder, state: State) -> Self {
        Created { folder: folder.unlocked(), state }
    }

    /// Deletes the container, whatever it does. Others may have done so, and another may have its id:
    /// then there is nothing to delete.
    ///
    /// # Errors
    /// What was made for it cannot be taken away.
    pub fn delete(self) -> Result<()> {
        let folder = self.folder.locked(&mut never)?;
        if folder.is_deleted() {
            return Ok(());
        }
        // Whoever took away the record and was killed then had taken away all else before.
        let state = folder.has_record().then_some(self.state);
        remove(folder, state, true, &mut never)
    }
}

/// Whether [`delete_remains`] may have something to delete.
pub fn has_remains(root: &Root, id: &str, init: ProcessId) -> bool {
    let state = root.find(id).and_then(|folder| folder.read());
    state.is_ok_and(|state| is_of(state.as_ref(), init))
}

/// A record without an init is what a deletion leaves that was killed half-way. It would be a
/// creation's too, but who holds the lock of one knows that it was left half-way as well.
fn is_of(state: Option<&State>, init: ProcessId) -> bool {
    state.is_none_or(|state| state.init == init || state.init == ProcessId::default())
}

fn remove(
    folder: Folder,
    state: Option<State>,
    force: bool,
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let status = folder.status(state.as_ref());
    let Some(state) = state else { return folder.remove() };
    let held = Held { folder, state, status };
    if !force {
        held.expect("delete", &[Status::Stopped, Status::Created])?;
    }
    if held.status != Status::Stopped {
        end(&held, interrupt)?;
    }
    take_away(held.folder, &held.state, interrupt)
}

/// Kills the init and, where it does not take them with it, all others.
pub(super) fn end(held: &Held, interrupt: Interrupt<'_>) -> Result<()> {
    let Ok(init) = pidfd_of(held.state.init) else { return Ok(()) };
    // Gone already is as good.
    let _ = pidfd::send_signal(&init, libc::SIGKILL);
    if held.status == Status::Paused {
        held.state.cgroup.thaw()?;
    }
    if interrupt::readable(&init, Some(Instant::now() + PATIENCE), interrupt)? {
        return Ok(());
    }
    let id = held.folder.id();
    let message = format!("container {id:?} does not end, {PATIENCE:?} after SIGKILL");
    Err(Error::new(Kind::Other, message)
        .hint("a process of it may wait for a device or a network file system"))
}

fn take_away(folder: Folder, state: &State, interrupt: Interrupt<'_>) -> Result<()> {
    // Without a pid namespace of its own the init leaves processes behind.
    if !state.cgroup.delete_if_empty() {
        state.cgroup.kill(libc::SIGKILL)?;
        state.cgroup.delete()?;
    }
    state.resctrl.as_ref().map_or(Ok(()), Resctrl::delete)?;
    // Before any hook, which may want to unmount what the rootfs or a volume is on.
    folder.remove_tree()?;
    poststop(state, interrupt)?;
    folder.remove()
}

/// The container is gone whatever these hooks do: a failing one is reported and the others run
/// (runtime.md#lifecycle, step 13). An interruption leaves the record, so that a later delete runs
/// them all.
pub(super) fn poststop(state: &State, interrupt: Interrupt<'_>) -> Result<()> {
    for hook in &state.hooks.poststop {
        let mut interrupted = None;
        let mut asked = || interrupt().inspect_err(|error| interrupted = Some(error.clone()));
        let state = state.to_oci_json(Status::Stopped);
        let ran = hooks::run(std::slice::from_ref(hook), &state, &mut asked);
        if let Some(interrupted) = interrupted {
            return Err(interrupted);
        }
        if let Err(error) = ran {
            crate::warn(&error.to_string());
        }
    }
    Ok(())
}
