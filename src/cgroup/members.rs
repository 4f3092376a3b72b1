//! Who is in a cgroup, and how to get in.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::Pid;

use super::files::{children, is_gone, read, write};
use super::group::{Cgroup, Directory};
use super::hierarchies::Version;
use crate::error::{Error, Result};

impl Cgroup {
    /// Moves a process in, by its number as this process sees it.
    ///
    /// The slow way, see the module's own documentation.
    pub fn join(&self, pid: Pid) -> Result<()> {
        let pid = pid.to_string();
        self.directories.iter().try_for_each(|directory| {
            directory.enter("cgroup.procs", &pid).map_err(|errno| directory.not_joined(errno))
        })
    }

    /// Moves this process in, which must have one thread only: a fresh clone.
    pub fn join_self(&self) -> Result<()> {
        self.directories.iter().try_for_each(|directory| {
            directory.enter(directory.entrance(), "0").map_err(|errno| directory.not_joined(errno))
        })
    }

    /// Opens what lets a process of one thread move itself in: it writes `0` into each.
    ///
    /// The right to do so is the opener's. Without `unified` for who was born in that one.
    pub fn entrances(&self, unified: bool) -> Result<Vec<OwnedFd>> {
        let wanted = |directory: &&Directory| unified || directory.version == Version::One;
        let open = |directory: &Directory| {
            let file = directory.open_file(directory.entrance(), OFlag::O_WRONLY);
            file.map(OwnedFd::from).map_err(|errno| directory.not_joined(errno))
        };
        self.directories.iter().filter(wanted).map(open).collect()
    }

    /// The processes in it and in its sub-cgroups.
    pub fn pids(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        for directory in self.census() {
            pids.extend(directory.pids()?);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// The directories that are asked who is in: the freezer's and the unified one, for freezing
    /// and killing go through these, or else whatever there is.
    fn census(&self) -> impl Iterator<Item = &Directory> {
        let asked =
            |directory: &Directory| directory.version == Version::Two || directory.has("freezer");
        let any = self.directories.iter().any(asked);
        let first = self.directories.iter().take(usize::from(!any));
        self.directories.iter().filter(move |directory| asked(directory)).chain(first)
    }
}

impl Directory {
    /// In version 1, `tasks` moves a thread, which needs no lock against forks for the writer
    /// itself; `cgroup.procs` moves a process and does.
    fn entrance(&self) -> &'static str {
        match self.version {
            Version::One => "tasks",
            Version::Two => "cgroup.procs",
        }
    }

    fn enter(&self, name: &str, pid: &str) -> nix::Result<()> {
        let file = self.open_file(name, OFlag::O_WRONLY)?;
        for _ in 0..10 {
            match write(&file, pid) {
                // The scheduler's controller refuses a process whose fork is not through.
                Err(Errno::EINVAL) => std::thread::sleep(Duration::from_millis(1)),
                outcome => return outcome,
            }
        }
        write(&file, pid)
    }

    fn not_joined(&self, errno: Errno) -> Error {
        let error = Error::path_call("write", self.path.join(self.entrance()), errno)
            .context("join the container's cgroup");
        match errno {
            Errno::EBUSY => error.hint("it hands controllers to sub-cgroups: join one of those"),
            Errno::EOPNOTSUPP => error.hint("it is inside of a threaded cgroup"),
            Errno::ENOSPC => error.hint("its cpuset has no cpus or mems"),
            _ => error,
        }
    }

    /// The processes in it and in its sub-cgroups; none if it is gone.
    pub(super) fn pids(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        collect(&self.path, &mut pids)
            .map_err(|errno| Error::path_call("read", self.path.join("cgroup.procs"), errno))?;
        Ok(pids)
    }
}

fn collect(path: &Path, pids: &mut Vec<Pid>) -> nix::Result<()> {
    let procs = match read(&path.join("cgroup.procs")) {
        Err(errno) if is_gone(errno) => return Ok(()),
        // A threaded cgroup lists its processes in the one above.
        Err(Errno::EOPNOTSUPP) => String::new(),
        procs => procs?,
    };
    // A process that this pid namespace does not show has number 0, and a signal to 0 would go
    // to ourselves.
    let shown = procs.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid > 0);
    pids.extend(shown.map(Pid::from_raw));
    match children(path) {
        Err(errno) if is_gone(errno) => Ok(()),
        children => children?.iter().try_for_each(|child| collect(child, pids)),
    }
}
