//! A child that clones again: what went first ends, and another goes on.

use std::os::fd::{AsFd, BorrowedFd};

use nix::unistd::Pid;

use super::{Child, died, explain};
use crate::error::{Error, Kind, Result};
use crate::init::Message;
use crate::sys::pidfd;

/// What whoever waits for children learns.
#[derive(Debug)]
pub enum Announced<'a> {
    /// A child, by number and pidfd, as soon as there is one.
    Child(Pid, BorrowedFd<'a>),
    /// One that went before the child and has ended.
    Forerunner(BorrowedFd<'a>),
}

/// Told of children that are born as siblings.
pub type Announce<'a> = &'a mut dyn FnMut(Announced<'_>);

impl Child<'_> {
    /// Where the plan has a second birth, waits for it: this is the one that was born then.
    pub(super) fn await_second_birth(&mut self, announce: Option<&mut Announce<'_>>) -> Result<()> {
        if !self.plan.clones_again() {
            return Ok(());
        }
        let heard = self.receive();
        let mut ended = None;
        let born = match heard {
            Ok(Some(Message::Born(pid, pidfd))) => {
                self.pid = pid;
                ended = Some(std::mem::replace(&mut self.pidfd, pidfd));
                Ok(())
            }
            Ok(Some(failed @ Message::Failed { .. })) => Err(explain(self.plan, failed)),
            Ok(Some(_)) => Err(out_of_turn()),
            Ok(None) => Err(died(self.plan)),
            Err(error) => Err(error),
        };
        let forerunner = ended.as_ref().unwrap_or(&self.pidfd);
        if born.is_err() {
            let _ = pidfd::send_signal(forerunner, libc::SIGKILL);
        }
        pidfd::await_end(forerunner);
        match announce {
            Some(announce) => announce(Announced::Forerunner(forerunner.as_fd())),
            None => drop(pidfd::reap(forerunner, true)),
        }
        born
    }
}

pub(super) fn out_of_turn() -> Error {
    Error::new(Kind::Other, "the container's init spoke out of turn")
}
