//! What happens to a container's cgroup, heard of without asking again and again.
//!
//! Version 2 changes files of which inotify(7) tells. Version 1 tells of memory that ran out through
//! an eventfd(2), before it has killed anybody; of freezing, inotify tells that somebody asked for
//! it. Where the news come before the fact, the fact is looked for until it is there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::group::{Cgroup, Directory};
use super::hierarchies::Version;
use crate::error::{Error, Result};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Memory ran out, so often since it was last said.
    Oom(u64),
    /// So many processes were killed for that.
    OomKill(u64),
    /// Every process has come to a stop.
    Frozen,
    /// They run on.
    Thawed,
}

/// How often a fact is looked for whose news came, and for how long.
const GLANCE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);

/// A cgroup that is watched.
#[derive(Debug)]
pub struct Watch {
    cgroup: Cgroup,
    files: Inotify,
    /// Version 1's notices that memory ran out.
    notices: Option<EventFd>,
    /// Whether files tell of what is asked for, not of what is done.
    tells_early: bool,
    seen: Seen,
    /// Until when a fact is looked for.
    unsettled: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    ooms: Option<u64>,
    oom_kills: Option<u64>,
    frozen: bool,
}

impl Seen {
    fn of(cgroup: &Cgroup) -> Self {
        let (ooms, oom_kills) = (cgroup.ooms(), cgroup.oom_kills());
        Seen { ooms, oom_kills, frozen: cgroup.is_all_frozen() }
    }
}

impl Watch {
    /// Begins: what happens from now on is told. A cgroup that is not there, or that this user may
    /// not watch, has nothing to tell.
    ///
    /// # Errors
    /// This user watches too many files already.
    pub fn begin(cgroup: Cgroup) -> Result<Self> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let files = Inotify::init(flags).map_err(|errno| {
            let error = Error::call("inotify_init1", "to watch a cgroup", errno);
            match errno {
                Errno::EMFILE => error.hint("raise the sysctl fs.inotify.max_user_instances"),
                _ => error,
            }
        })?;
        let memory = cgroup.directory("memory");
        let events = memory.filter(|it| it.version == Version::Two);
        let events = events.map(|directory| directory.path.join("memory.events"));
        for file in events.into_iter().chain(cgroup.freezer_file()) {
            // Kernels before version 2 could freeze have no such file.
            let _ = files.add_watch(&file, AddWatchFlags::IN_MODIFY);
        }
        let notices = memory.filter(|it| it.version == Version::One).and_then(Directory::notices);
        let freezer = cgroup.directory("freezer");
        let tells_early = freezer.is_some_and(|it| it.version == Version::One);
        let seen = Seen::of(&cgroup);
        Ok(Watch { cgroup, files, notices, tells_early, seen, unsettled: None })
    }

    /// Can be read when there may be news.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.files.as_fd()).chain(self.notices.as_ref().map(AsFd::as_fd))
    }

    /// When to look again although nothing can be read.
    pub fn look_again(&self) -> Option<Instant> {
        self.unsettled.map(|_| Instant::now() + GLANCE)
    }

    /// Whether it is the killing that tells of memory that ran out in version 2, where a limit above
    /// the container's own may be the one that was hit.
    pub fn counts_kills(&self) -> bool {
        self.cgroup.directory("memory").is_some_and(|it| it.version == Version::Two)
    }

    /// What has happened since the last time.
    pub fn news(&mut self) -> Vec<Change> {
        let told = self.files.read_events().is_ok();
        let noticed = self.noticed();
        if noticed > 0 || told && self.tells_early {
            self.unsettled = Some(Instant::now() + PATIENCE);
        } else if self.unsettled.is_some_and(|until| until < Instant::now()) {
            self.unsettled = None;
        }
        let now = Seen::of(&self.cgroup);
        let more = |now: Option<u64>, before: Option<u64>| {
            now?.checked_sub(before.unwrap_or(0)).filter(|more| *more > 0)
        };
        let ooms = more(now.ooms, self.seen.ooms).or(Some(noticed).filter(|count| *count > 0));
        let kills = more(now.oom_kills, self.seen.oom_kills);
        let frozen = (now.frozen != self.seen.frozen).then_some(match now.frozen {
            true => Change::Frozen,
            false => Change::Thawed,
        });
        // The figures of a cgroup that is gone are none, not zero.
        self.seen = Seen {
            ooms: now.ooms.or(self.seen.ooms),
            oom_kills: now.oom_kills.or(self.seen.oom_kills),
            frozen: now.frozen,
        };
        let ooms = ooms.map(Change::Oom);
        ooms.into_iter().chain(kills.map(Change::OomKill)).chain(frozen).collect()
    }

    /// How often version 1 said that memory ran out; it says so at the cgroup's end too.
    fn noticed(&self) -> u64 {
        let count = self.notices.as_ref().and_then(|notices| notices.read().ok()).unwrap_or(0);
        if count > 0 && self.cgroup.oom_kills().is_some() { count } else { 0 }
    }
}

impl Directory {
    /// Registers with version 1 for notices that memory ran out.
    fn notices(&self) -> Option<EventFd> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let notices = EventFd::from_value_and_flags(0, flags).ok()?;
        let control = self.open_file("memory.oom_control", OFlag::O_RDONLY).ok()?;
        let line = format!("{} {}", notices.as_raw_fd(), control.as_raw_fd());
        self.write_file("cgroup.event_control", &line).ok()?;
        Some(notices)
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
