//! Removing a cgroup whose processes may not be quite gone.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::unlinkat;

use super::create::MARK;
use super::files::{children, is_gone};
use super::group::{Cgroup, Directory};
use super::hierarchies::Version;
use crate::error::{Error, Result};
use crate::sys::xattr;

/// A killed process leaves its cgroup when it is through its exit, which may have memory to free.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

impl Cgroup {
    /// Removes it if nothing is in it any more, in one call a hierarchy; false where something is.
    pub fn delete_if_empty(&self) -> bool {
        // What is systemd's is for it to remove.
        self.unit.is_none()
            && self.directories.iter().all(|directory| {
                let removed = rmdir(&directory.path).is_ok();
                if removed {
                    directory.remove_parents();
                }
                removed
            })
    }

    /// Removes its directories, their sub-cgroups, and parents that were made for containers and
    /// now have none. Waits a bounded time for processes to be gone; what is gone is success.
    ///
    /// All that can be removed is, also if another cannot.
    pub fn delete(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.end_unit(deadline);
        let mut outcome = Ok(());
        for directory in &self.directories {
            let removed = remove_in_time(&directory.path, deadline);
            if let Err(errno) = removed {
                let error = not_removed(directory, errno);
                outcome = outcome.and(Err(error));
                continue;
            }
            directory.remove_parents();
        }
        outcome
    }
}

impl Cgroup {
    /// Lets systemd remove what it made. It would not learn of a directory that goes before it saw
    /// that one empty, and keep the unit; without it, what is left is removed here.
    fn end_unit(&self, deadline: Instant) {
        let Some(unit) = &self.unit else { return };
        if unit.stop().is_err() {
            return;
        }
        let mut pause = FIRST_PAUSE;
        while self.directories.iter().any(|directory| directory.is_systemds_and_there())
            && Instant::now() < deadline
        {
            std::thread::sleep(pause);
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}

fn not_removed(directory: &Directory, errno: Errno) -> Error {
    let error = Error::path_call("rmdir", &directory.path, errno);
    let pids = directory.pids().unwrap_or_default();
    match pids.first() {
        Some(first) => error.hint(format!("{} processes are in it still, as {first}", pids.len())),
        None => error,
    }
}

fn remove_in_time(path: &Path, deadline: Instant) -> nix::Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        match remove(path) {
            Err(Errno::EBUSY) if Instant::now() < deadline => std::thread::sleep(pause),
            outcome => return outcome,
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// The common case, nothing inside, is one system call.
fn remove(path: &Path) -> nix::Result<()> {
    match rmdir(path) {
        Err(Errno::EBUSY) => {}
        outcome => return outcome,
    }
    match children(path) {
        Err(errno) if is_gone(errno) => return Ok(()),
        children => children?.iter().try_for_each(|child| remove(child))?,
    }
    rmdir(path)
}

fn rmdir(path: &Path) -> nix::Result<()> {
    match unlinkat(nix::fcntl::AT_FDCWD, path, nix::unistd::UnlinkatFlags::RemoveDir) {
        Err(errno) if is_gone(errno) => Ok(()),
        outcome => outcome,
    }
}

impl Directory {
    /// Of version 1, some controllers are none of systemd's.
    fn is_systemds_and_there(&self) -> bool {
        let managed = self.version == Version::Two || self.controllers.is_empty();
        managed && self.path.exists()
    }

    /// Takes back a making that failed; that failure is the one to report.
    pub(super) fn unmake(&self) {
        if !self.made || rmdir(&self.path).is_ok() {
            self.remove_parents();
        }
    }

    /// Upwards, as long as they carry the mark and nothing is in them: another container's
    /// deletion removes the rest.
    fn remove_parents(&self) {
        for parent in &self.parents {
            if parent.exists() && (!xattr::is_marked(parent, MARK) || rmdir(parent).is_err()) {
                break;
            }
        }
    }
}
