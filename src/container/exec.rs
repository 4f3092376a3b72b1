//! exec: a further process in a running container.

use std::os::fd::OwnedFd;

use nix::unistd::Pid;
use oci_spec::runtime::{Process, Spec};

use super::{Held, Running};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::launch::{self, Announce, Cradle, Duties, Launch};
use crate::plan::step::{HookPoint, StartSignal};
use crate::plan::{Facts, Plan, Situation};
use crate::state::{Root, Status, pidfd_of};

/// What is run in which container.
pub struct Execution<'a> {
    /// Where the containers' states are.
    pub root: &'a Root,
    /// The container.
    pub id: &'a str,
    /// Makes the process out of that of the config.
    pub process: &'a dyn Fn(&Spec) -> Result<Process>,
    /// Standard streams; none for this process's own.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Descriptors from 3 on that the program inherits.
    pub keep_descriptors: i32,
    /// Cgroups inside of the container's to be in; none for the container's own.
    pub cgroups: &'a [String],
    /// Whether what it says on its terminal ends up where no carriage return belongs.
    pub plain_lines: bool,
    /// Enter a paused container too: the program runs once it is resumed.
    pub ignore_paused: bool,
    /// The host.
    pub facts: &'a Facts,
    /// Who clones it.
    pub cradle: Cradle,
    /// Who is told what the specification wants said and not refused.
    pub warn: &'a dyn Fn(&str),
    /// Who is told of the child as soon as there is one.
    pub announce: Option<Announce<'a>>,
}

/// Runs a program in a container; returns when it runs.
///
/// # Errors
/// The container is neither running nor created, or a step failed.
pub fn exec(execution: Execution<'_>) -> Result<Running> {
    // Not locked: processes may come in side by side, and who deletes the container kills them.
    let held = Held::peek(execution.root, execution.id)?;
    let allowed = [Status::Running, Status::Created, Status::Paused];
    let paused = usize::from(execution.ignore_paused);
    held.expect("exec in", &allowed[..2 + paused])?;
    let spec = held.state.spec()?;
    let mut process = (execution.process)(&spec)?;
    crate::spec::inherit(&mut process, &spec);
    let situation = Situation {
        keep_descriptors: execution.keep_descriptors,
        setgroups: allows_setgroups(held.state.init.pid),
        session_keyring: held.state.session_keyring,
        plain_lines: execution.plain_lines,
        tree: execution.root.tree(execution.id),
        ..Situation::new(execution.id, &held.state.bundle, StartSignal::Parent)
    };
    let plan = Plan::compile_exec(&spec, &process, execution.facts, &situation)?;
    plan.warnings.iter().for_each(|warning| (execution.warn)(warning));
    let init = pidfd_of(held.state.init).map_err(|errno| {
        Error::call("pidfd_open", held.state.init.pid, errno)
            .context(format_args!("container {:?} has just ended", execution.id))
            .with_kind(Kind::State)
    })?;
    let inside = match execution.cgroups {
        [] => None,
        asked => Some(held.state.cgroup.inside(asked)?),
    };
    let cgroup = inside.as_ref().unwrap_or(&held.state.cgroup);
    let launch = Launch {
        plan: &plan,
        cgroup,
        cradle: execution.cradle,
        start_socket: None,
        stdio: execution.stdio,
        container: Some(init),
    };
    let mut child = launch.begin()?.child(execution.announce)?;
    let mut visit = Visit { plan: &plan, held: &held, cgroup, pid: child.pid };
    match child.attend(&mut visit).and_then(|()| child.go(&[])) {
        Ok(()) => Ok(Running { pid: child.pid, pidfd: child.pidfd, terminal: child.terminal }),
        Err(error) => {
            child.kill();
            Err(if held.state.init.is_alive() { error } else { ended(execution.id, &error) })
        }
    }
}

/// What the container's user namespace says, whoever made it; none where its init is gone.
fn allows_setgroups(init: i32) -> Option<bool> {
    let word = std::fs::read_to_string(format!("/proc/{init}/setgroups")).ok()?;
    Some(word.trim() != "deny")
}

/// Its init took the process along, whichever step that was at.
fn ended(id: &str, error: &Error) -> Error {
    let message = format!("container {id:?} ended before the process in it ran ({error})");
    Error::new(Kind::State, message)
}

/// The cgroup is there, and an exec has no hooks.
struct Visit<'a> {
    plan: &'a Plan,
    held: &'a Held,
    cgroup: &'a Cgroup,
    pid: Pid,
}

impl Duties for Visit<'_> {
    fn cgroup(&mut self, born_inside: bool) -> Result<Vec<OwnedFd>> {
        let state = &self.held.state;
        state.resctrl.as_ref().map_or(Ok(()), |resctrl| resctrl.join(self.pid.as_raw()))?;
        self.cgroup.entrances(!born_inside)
    }

    fn hooks(&mut self, _: HookPoint) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn listener(&mut self, pid: Pid, listener: OwnedFd) -> Result<()> {
        let Some(to) = &self.plan.listener else { return Ok(()) };
        launch::send_listener(to, &listener, pid, &self.held.state, self.held.status)
    }
}
