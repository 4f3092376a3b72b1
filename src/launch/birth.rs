//! The clone itself.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::{SpareNetwork, hints};
use crate::error::{Error, Result};
use crate::init::{self, Inherited};
use crate::plan::Plan;
use crate::sys::clone::{CloneFlags, Cloned, SingleThreaded, clone3};
use crate::sys::{pidfd, privilege, sched};

/// This process as the one that clones. Its child is born as its sibling: the parent of both, the
/// launcher or the command line, waits for it.
#[derive(Debug)]
pub struct Here {
    /// This process has one thread.
    pub proof: SingleThreaded,
    /// A new network namespace that this process is in, for a child that wants one.
    pub network: Option<SpareNetwork>,
}

/// A child that has just been cloned.
#[derive(Debug)]
pub(super) struct Newborn {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// Whether it is in the unified hierarchy's cgroup by birth.
    pub(super) born_inside: bool,
}

impl Here {
    pub(super) fn clone(
        self,
        plan: &Plan,
        born_in: Option<OwnedFd>,
        inherited: Inherited,
    ) -> Result<Newborn> {
        let mut namespaces = plan.born.namespaces;
        // In a new user namespace the network must be that one's own, which this one is not.
        let wants_network =
            namespaces & libc::CLONE_NEWNET != 0 && namespaces & libc::CLONE_NEWUSER == 0;
        let network = match self.network {
            Some(spare) if !wants_network => spare.leave().map(|()| None)?,
            network => network,
        };
        if network.is_some() {
            namespaces &= !libc::CLONE_NEWNET;
        }
        prepare(plan, inherited.container.as_ref())?;
        let mut flags = CloneFlags {
            namespaces: namespaces as u64,
            sibling: true,
            cgroup: born_in.as_ref().map(AsFd::as_fd),
        };
        // The files of a process that is not dumpable are root's, the one for its id maps too.
        let by_user = plan.born.id_maps.as_ref().is_some_and(|maps| maps.by_user);
        let open_to_user = |open| {
            let set = if by_user { privilege::set_dumpable(open) } else { Ok(()) };
            set.map_err(|errno| Error::call("prctl", "PR_SET_DUMPABLE", errno))
        };
        open_to_user(true)?;
        let cloned = match clone3(self.proof, &flags) {
            // A container that handed controllers to cgroups of its own takes nobody in at its top
            // that way, and a threaded cgroup neither.
            Err(Errno::EBUSY | Errno::EOPNOTSUPP) if flags.cgroup.is_some() => {
                flags.cgroup = None;
                clone3(self.proof, &flags)
            }
            cloned => cloned,
        };
        match cloned {
            Ok(Cloned::Child) => init::run(plan, inherited),
            Ok(Cloned::Parent(pid, pidfd)) => {
                network.map_or(Ok(()), SpareNetwork::leave_if_known)?;
                open_to_user(false)?;
                // Its copy would keep the channel open when the child has ended.
                drop(inherited);
                Ok(Newborn { pid, pidfd, born_inside: flags.cgroup.is_some() })
            }
            Err(errno) => Err(hints::clone_failed(plan, errno)),
        }
    }
}

/// The namespaces of the container that its new process has to be born in.
fn enter_container(plan: &Plan, container: &OwnedFd) -> Result<()> {
    if let Some(value) = plan.born.oom_score_adj {
        // Inherited. The file is this user's while the process is open to it.
        let open_to_user = |open| {
            privilege::set_dumpable(open)
                .map_err(|errno| Error::call("prctl", "PR_SET_DUMPABLE", errno))
        };
        open_to_user(true)?;
        super::write_oom_score_adj("self", value)?;
        open_to_user(false)?;
    }
    match plan.born.enter_container {
        0 => Ok(()),
        namespaces => {
            pidfd::setns(container, namespaces).map_err(|errno| hints::not_entered(plan, errno))
        }
    }
}

/// What only the children of this process see: it does not enter these namespaces itself.
fn prepare(plan: &Plan, container: Option<&OwnedFd>) -> Result<()> {
    let born = &plan.born;
    if let Some(container) = container {
        enter_container(plan, container)?;
    }
    if let Some(path) = &born.join_pid {
        let shown = path.to_string_lossy();
        let failed = |call: &str, errno| {
            Error::path_call(call, &*shown, errno)
                .context("join pid namespace")
                .asked_by("$.linux.namespaces")
        };
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace =
            open(path.as_c_str(), flags, Mode::empty()).map_err(|errno| failed("open", errno))?;
        pidfd::setns(namespace, libc::CLONE_NEWPID).map_err(|errno| failed("setns", errno))?;
    }
    if let Some(processors) = &born.affinity {
        sched::set_affinity(processors).map_err(|errno| {
            let shown = format!("to {}", crate::plan::shown_list(processors));
            Error::call("sched_setaffinity", shown, errno)
                .asked_by("$.process.execCPUAffinity.initial")
                .hint(hints::NO_SUCH_PROCESSOR)
        })?;
    }
    if let Some(offsets) = &born.time_offsets {
        let time = nix::sched::CloneFlags::from_bits_retain(0x80);
        let failed = |call: &str, errno| {
            Error::call(call, "for a time namespace", errno).asked_by("$.linux.timeOffsets")
        };
        nix::sched::unshare(time).map_err(|errno| failed("unshare", errno))?;
        if !offsets.is_empty() {
            std::fs::write("/proc/self/timens_offsets", offsets).map_err(|error| {
                Error::io("write", "/proc/self/timens_offsets", &error)
                    .asked_by("$.linux.timeOffsets")
            })?;
        }
    }
    Ok(())
}
