//! events: what happens to a container, until it ends.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::Held;
use crate::cgroup::{Change, Watch};
use crate::error::{Error, Result};
use crate::interrupt::{self, Interrupt};
use crate::state::{Root, pidfd_of};

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// To its cgroup.
    Cgroup(Change),
    /// Its init ended.
    Exit,
}

/// What came of waiting for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// One.
    Event(Event),
    /// None until the moment up to which it was waited.
    Nothing,
    /// There will be no more.
    Over,
}

/// A container that is watched. Its end is the last of its events.
#[derive(Debug)]
pub struct Events {
    watch: Watch,
    /// None once it has ended.
    init: Option<OwnedFd>,
    told: VecDeque<Event>,
}

/// Begins to watch a container: what happens from now on is told.
///
/// # Errors
/// No such container; this user watches too many files already.
pub fn events(root: &Root, id: &str) -> Result<Events> {
    let held = Held::peek(root, id)?;
    let watch = Watch::begin(held.state.cgroup)?;
    // After the watch has begun, so that what led to its end is told before that.
    let init = pidfd_of(held.state.init).ok();
    let told = if init.is_none() { VecDeque::from([Event::Exit]) } else { VecDeque::new() };
    Ok(Events { watch, init, told })
}

impl Events {
    /// Waits for the next.
    ///
    /// # Errors
    /// What `interrupt` answers.
    pub fn next(&mut self, until: Option<Instant>, interrupt: Interrupt<'_>) -> Result<Awaited> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Ok(Awaited::Event(event));
            }
            let Some(init) = &self.init else { return Ok(Awaited::Over) };
            let ended = self.wait(init, until, interrupt)?;
            let news = self.watch.news();
            self.told.extend(news.into_iter().map(Event::Cgroup));
            if ended {
                self.init = None;
                self.told.push_back(Event::Exit);
            }
            if self.told.is_empty() && until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Awaited::Nothing);
            }
        }
    }

    /// Whether it is killing by which memory that ran out is told of; see [`Watch::counts_kills`].
    pub fn counts_kills(&self) -> bool {
        self.watch.counts_kills()
    }

    /// Waits until there may be news; whether the init has ended.
    fn wait(
        &self,
        init: &OwnedFd,
        until: Option<Instant>,
        interrupt: Interrupt<'_>,
    ) -> Result<bool> {
        let again = self.watch.look_again();
        let until = match (until, again) {
            (Some(until), Some(again)) => Some(until.min(again)),
            (until, again) => until.or(again),
        };
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut polled: Vec<PollFd<'_>> =
            std::iter::once(init.as_fd()).chain(self.watch.descriptors()).map(readable).collect();
        loop {
            match poll(&mut polled, interrupt::attentive(until)) {
                Err(Errno::EINTR) => interrupt()?,
                Ok(0) if until.is_none_or(|until| Instant::now() < until) => interrupt()?,
                ready => {
                    ready.map_err(|errno| Error::call("poll", "on a container", errno))?;
                    return Ok(polled[0].any() == Some(true));
                }
            }
        }
    }
}
