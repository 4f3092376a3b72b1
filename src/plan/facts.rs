//! What this host is. Probed once, by the one impure function of the plan's side.

use std::fs::read_to_string;
use std::path::PathBuf;

use caps::Capability;
use nix::sys::statfs::{FsType, statfs};

use super::SecurityModules;
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
    /// Whether this process is not the host's root: an ordinary user, or root of a user namespace
    /// alone, whom the host refuses devices and what other users own as well.
    pub rootless: bool,
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// Whether setgroups(2) is allowed in this process's user namespace, and so in new ones.
    pub setgroups: bool,
    /// Capabilities that this process can hand on: its permitted and bounding sets.
    pub capabilities: u64,
    /// What it can confine programs by.
    pub modules: SecurityModules,
    /// Where resctrl is mounted.
    pub resctrl: Option<PathBuf>,
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
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let rootless = !uid.is_root() || privilege::in_user_namespace();
        // Root may make cgroups wherever they are mounted: only others have to look.
        let hierarchies = Hierarchies::probe()?;
        Ok(Facts {
            hierarchies: if rootless { hierarchies.with_delegation() } else { hierarchies },
            rootless,
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            // A kernel without user namespaces has no such file, and nothing to forbid it.
            setgroups: !read_to_string("/proc/self/setgroups")
                .is_ok_and(|word| word.trim() == "deny"),
            capabilities: own.permitted & bounding,
            modules: SecurityModules { apparmor: has_apparmor(), selinux: has_selinux() },
            resctrl: crate::resctrl::mount_point(),
            seccomp: seccomp_support(),
        })
    }

    /// Whether this process can hand on a capability.
    pub(super) fn can(&self, capability: Capability) -> bool {
        self.capabilities & capability.bitmask() != 0
    }
}

/// Its folder in /sys/kernel/security tells nothing: it takes none to ask for a profile, and engines
/// cover it for a runtime whose container has a user namespace.
fn has_apparmor() -> bool {
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|word| word.starts_with(b"Y"))
}

/// Its file system is mounted only where a policy can be loaded.
fn has_selinux() -> bool {
    const SELINUX_MAGIC: FsType = FsType(libc::SELINUX_MAGIC as _);
    statfs("/sys/fs/selinux").is_ok_and(|found| found.filesystem_type() == SELINUX_MAGIC)
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
