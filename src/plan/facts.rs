//! What this host is. Probed once, by the one impure function of the plan's side.

use crate::cgroup::Hierarchies;
use crate::error::{Error, Result};
use crate::sys::privilege;

/// The host as far as plans depend on it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The cgroup mounts, and where this process is in them.
    pub hierarchies: Hierarchies,
    /// Whether this process is an ordinary user.
    pub rootless: bool,
    /// Capabilities that this process can hand on: its permitted and bounding sets.
    pub capabilities: u64,
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
        })
    }
}
