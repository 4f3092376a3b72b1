//! What this host is. Probed once, by the one impure function of the plan's side.

use super::seccomp::{ACTIONS, Support};
use crate::cgroup::Hierarchies;
use crate::error::{Error, Result};
use crate::sys::privilege;
use crate::sys::seccomp::{self, flag};

/// The host as far as plans depend on it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The cgroup mounts, and where this process is in them.
    pub hierarchies: Hierarchies,
    /// Whether this process is an ordinary user.
    pub rootless: bool,
    /// Capabilities that this process can hand on: its permitted and bounding sets.
    pub capabilities: u64,
    /// What the kernel has of seccomp.
    pub seccomp: Support,
}

impl Facts {
    /// Looks at the host.
    ///
    /// # Errors
    /// Where /proc cannot be read.
    pub fn probe() -> Result<Self> {
        let own = privilege::capabilities()
            .map_err(|errno| Error::call("capget", "of this process", errno))?;
        let bounding = (0..64)
            .map_while(|capability| {
                privilege::in_bounding(capability).ok().map(|set| (capability, set))
            })
            .filter(|(_, set)| *set)
            .fold(0, |bits, (capability, _)| bits | 1 << capability);
        Ok(Facts {
            hierarchies: Hierarchies::probe()?,
            rootless: !nix::unistd::geteuid().is_root(),
            capabilities: own.permitted & bounding,
            seccomp: seccomp_support(),
        })
    }
}

fn seccomp_support() -> Support {
    // Each alone would be refused: the last one only goes with a listener.
    let flags = [flag::LOG, flag::SPEC_ALLOW, flag::NEW_LISTENER, flag::WAIT_KILLABLE_RECV];
    let with = |flag| if flag == flag::WAIT_KILLABLE_RECV { flag::NEW_LISTENER } else { 0 };
    let known = flags.into_iter().filter(|flag| seccomp::has_flags(flag | with(*flag)));
    Support {
        actions: ACTIONS.into_iter().filter(|action| seccomp::has_action(*action)).collect(),
        flags: known.fold(0, |bits, flag| bits | flag),
        ..Support::full()
    }
}
