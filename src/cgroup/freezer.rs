//! Freezing and thawing, without hanging.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::files::is_gone;
use super::group::{Cgroup, Directory};
use super::hierarchies::Version;
use crate::error::{Error, Kind, Result};

/// A process that sleeps uninterruptibly freezes only once it wakes; longer is not waited.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// The two versions' freezers: the file, what is written there, where the answer is.
struct Freezer<'a> {
    directory: &'a Directory,
    switch: &'static str,
    freeze: &'static str,
    thaw: &'static str,
}

impl<'a> Freezer<'a> {
    fn of(cgroup: &'a Cgroup) -> Option<Self> {
        let v1 = cgroup.directory("freezer").filter(|found| found.version == Version::One);
        let (switch, freeze, thaw) = match v1 {
            Some(_) => ("freezer.state", "FROZEN", "THAWED"),
            None => ("cgroup.freeze", "1", "0"),
        };
        Some(Freezer { directory: v1.or(cgroup.unified())?, switch, freeze, thaw })
    }

    fn put(&self, value: &str) -> Result<()> {
        self.directory.write_file(self.switch, value).map_err(|errno| {
            Error::path_call("write", self.directory.path.join(self.switch), errno)
                .context(format_args!("set {} to {value:?}", self.switch))
        })
    }

    fn read(&self, file: &str) -> Result<String> {
        match self.directory.read_value(file) {
            // One that is gone, or a kernel before version 2 could freeze, has nothing frozen.
            Err(errno) if is_gone(errno) => Ok(String::new()),
            text => text
                .map_err(|errno| Error::path_call("read", self.directory.path.join(file), errno)),
        }
    }

    /// Whether every process has come to a stop.
    fn is_done(&self) -> Result<bool> {
        match self.directory.version {
            Version::One => Ok(self.read(self.switch)?.trim() == self.freeze),
            Version::Two => Ok(self.read("cgroup.events")?.lines().any(|line| line == "frozen 1")),
        }
    }

    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        while !self.is_done()? {
            if Instant::now() > deadline {
                return Err(Error::new(Kind::Other, "the container does not freeze")
                    .hint("a process of it is inside of a system call that does not return"));
            }
            std::thread::sleep(pause);
            pause = LONGEST_PAUSE.min(pause * 2);
            // Version 1 overlooks processes that are born while it freezes, until told again.
            if self.directory.version == Version::One {
                self.put(self.freeze)?;
            }
        }
        Ok(())
    }
}

impl Cgroup {
    /// The directory by which it is frozen.
    pub fn freezer(&self) -> Option<&Directory> {
        Freezer::of(self).map(|freezer| freezer.directory)
    }

    /// Stops every process in it, or none: if one does not stop in time, all are thawed.
    pub fn freeze(&self) -> Result<()> {
        let freezer = Freezer::of(self).ok_or_else(|| self.no_freezer())?;
        let outcome = freezer.put(freezer.freeze).and_then(|()| freezer.wait());
        if outcome.is_err() {
            // The failure to freeze is the one to report.
            let _ = freezer.put(freezer.thaw);
        }
        outcome.map_err(|error| match error.errno() {
            Some(Errno::ENOENT) => self.no_freezer(),
            _ => error,
        })
    }

    /// Lets the processes go on.
    pub fn thaw(&self) -> Result<()> {
        let freezer = Freezer::of(self).ok_or_else(|| self.no_freezer())?;
        freezer.put(freezer.thaw)
    }

    /// Whether it was told to freeze.
    pub fn frozen(&self) -> Result<bool> {
        let Some(freezer) = Freezer::of(self) else { return Ok(false) };
        let state = freezer.read(freezer.switch)?;
        Ok(matches!(state.trim(), "FROZEN" | "FREEZING" | "1"))
    }

    /// Whether it was told to freeze and every process in it has come to a stop.
    pub(super) fn is_all_frozen(&self) -> bool {
        Freezer::of(self).is_some_and(|freezer| freezer.is_done().unwrap_or(false))
    }

    /// The file that is written when somebody freezes or thaws it, or that changes when that is
    /// done.
    pub(super) fn freezer_file(&self) -> Option<std::path::PathBuf> {
        let freezer = Freezer::of(self)?;
        Some(freezer.directory.path.join(match freezer.directory.version {
            Version::One => freezer.switch,
            Version::Two => "cgroup.events",
        }))
    }

    fn no_freezer(&self) -> Error {
        if self.directories.is_empty() {
            let message = "the container has no cgroup of its own that could be frozen";
            return Error::new(Kind::Other, message)
                .hint("have one delegated to this user and name it in $.linux.cgroupsPath");
        }
        Error::new(Kind::Other, "the container's cgroup cannot be frozen")
            .hint("mount the freezer controller, or cgroup2 with Linux 5.2 or later")
    }
}
