//! kill: a signal to the container's init, or to all of its processes.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxNamespaceType;

use super::Held;
use crate::error::{Error, Kind, Result};
use crate::plan::namespace_asked_for;
use crate::state::{Root, Status, pidfd_of};
use crate::sys::pidfd;

/// Sends a signal.
///
/// # Errors
/// The container is stopped: no process would get the signal.
pub fn kill(root: &Root, id: &str, signal: i32, all: bool) -> Result<()> {
    let held = Held::peek(root, id)?;
    if all && !held.state.cgroup.directories().is_empty() {
        return held.state.cgroup.kill(signal);
    }
    if all {
        return kill_namespace(&held, signal);
    }
    // The end of an init takes those along that are in its own pid namespace, and no others.
    if signal == libc::SIGKILL && shares_pids(&held)? && !held.state.cgroup.pids()?.is_empty() {
        return held.state.cgroup.kill(signal);
    }
    held.expect("kill", &[Status::Running, Status::Created, Status::Paused])?;
    kill_init(&held, signal)
}

/// Whether its processes are in a pid namespace that was there before it.
fn shares_pids(held: &Held) -> Result<bool> {
    let spec = held.state.spec()?;
    let pids = namespace_asked_for(&spec, LinuxNamespaceType::Pid);
    Ok(pids.is_none_or(|pids| pids.path().is_some()))
}

fn kill_init(held: &Held, signal: i32) -> Result<()> {
    let id = held.folder.id();
    let sent = pidfd_of(held.state.init).and_then(|init| pidfd::send_signal(init, signal));
    match sent {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(Error::new(
            Kind::State,
            format!("container {id:?} has just ended (no such process)"),
        )
        .hint("there is nothing left to kill")),
        Err(errno) => {
            let what = format!("of signal {signal} to container {id:?}");
            Err(Error::call("pidfd_send_signal", what, errno))
        }
    }
}

/// Sends a signal to everything in the container's pid namespace; none there is success.
fn kill_namespace(held: &Held, signal: i32) -> Result<()> {
    processes_of_namespace(held, |pid, process| match pidfd::send_signal(process, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::call("pidfd_send_signal", format!("{pid}, {signal}"), errno)),
    })
}

/// Visits everything in the container's pid namespace, which is what tells its processes from others
/// where it has no cgroup.
pub(super) fn processes_of_namespace(
    held: &Held,
    mut visit: impl FnMut(i32, &OwnedFd) -> Result<()>,
) -> Result<()> {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    if !held.state.init.is_alive() {
        return Ok(());
    }
    let of_init = namespace(&held.state.init.pid.to_string());
    if of_init.is_none() {
        // Until it runs its program it hides, and an ordinary user's container has no other process.
        return match pidfd_of(held.state.init) {
            Ok(init) => visit(held.state.init.pid, &init),
            Err(_) => Ok(()),
        };
    }
    if of_init == namespace("self") {
        let id = held.folder.id();
        let message = format!("nothing tells all processes of container {id:?} from others");
        return Err(Error::new(Kind::State, message).hint(
            "it has neither a cgroup nor a pid namespace of its own: its init alone is known",
        ));
    }
    let processes =
        std::fs::read_dir("/proc").map_err(|error| Error::io("open", "/proc", &error))?;
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // Held before it is looked at, so that the one that is visited is the one seen.
        let Ok(process) = pidfd::open(Pid::from_raw(pid)) else { continue };
        if namespace(&pid.to_string()) == of_init {
            visit(pid, &process)?;
        }
    }
    Ok(())
}

/// A signal's number from its name with or without SIG, or from the number itself.
///
/// # Errors
/// There is no such signal.
pub fn signal_number(name: &str) -> Result<i32> {
    let upper = name.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(no_signal(name)) };
    }
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Real-time signals are counted from either end (signal(7)); glibc keeps 32 and 33 to itself.
    let offset =
        |prefix: &str| short.strip_prefix(prefix).map(|rest| rest.parse::<i32>().unwrap_or(0));
    match (offset("RTMIN"), offset("RTMAX")) {
        (Some(offset), _) if (0..=30).contains(&offset) => return Ok(34 + offset),
        (_, Some(offset)) if (-30..=0).contains(&offset) => return Ok(64 + offset),
        _ => {}
    }
    format!("SIG{short}")
        .parse::<nix::sys::signal::Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| no_signal(name))
}

fn no_signal(name: &str) -> Error {
    Error::new(Kind::Other, format!("there is no signal {name:?}"))
        .hint("name one such as TERM, SIGKILL, RTMIN+1 or 15")
}
