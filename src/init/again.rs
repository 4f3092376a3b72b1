//! A second birth: pid and time namespaces take in none but children.
//!
//! Where they are to belong to a user namespace that is joined, a process must
//! join that and then have a child in them. It is cloned as a sibling, so
//! that its parent is the one that waits for it; what went before it ends.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::{Child, Done, Failure, channel};
use crate::sys::clone::{CloneFlags, Cloned, clone3, exit_now};
use crate::sys::socket;

impl Child<'_> {
    pub(super) fn clone_again(&mut self, namespaces: i32) -> Done {
        self.namespaces.clear();
        let proof = self.one_thread.ok_or(Failure::new("clone3", Errno::EBUSY))?;
        let (ours, theirs) = socket::pair().map_err(Failure::of("socketpair"))?;
        let flags = CloneFlags { namespaces: namespaces as u64, sibling: true, cgroup: None };
        match clone3(proof, &flags).map_err(Failure::of("clone3"))? {
            Cloned::Parent(pid, pidfd) => {
                // First of all that the parent hears, so before the child may speak. Were it not
                // told, the child would find this end closed.
                channel::send_born(self.channel.as_fd(), pid, &pidfd)
                    .map_err(Failure::of("sendmsg"))?;
                let _ = socket::send(&ours, b"known", &[]);
                exit_now(0)
            }
            Cloned::Child => {
                drop(ours);
                match channel::receive_text(theirs.as_fd()) {
                    Ok(Some(_)) => Ok(()),
                    _ => exit_now(1),
                }
            }
        }
    }
}
