//! The parent of the clone.
//!
//! While the child mounts, the parent writes the limits of the cgroup; the
//! child waits for what the parent owes only at the steps where the order
//! matters. The plan tells both sides what those are.

mod agent;
mod birth;
mod hints;
mod id_mapped;
mod id_maps;
mod net_devices;
mod network;
mod own_mounts;
mod second_birth;
mod stage;

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

pub use agent::send_listener;
pub use birth::Here;
use birth::Newborn;
pub use network::SpareNetwork;
pub use second_birth::{Announce, Announced};
pub use stage::{ARGUMENT as STAGE, Image, Stage, StageProgram, run as run_stage};

use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::init::{self, Inherited, Message};
use crate::plan::Plan;
use crate::plan::step::{HookPoint, StartSignal, Step, Wait};
use crate::sys::{pidfd, socket};

/// What a child is launched with.
#[derive(Debug)]
pub struct Launch<'a, 'b> {
    /// What it does.
    pub plan: &'a Plan,
    /// The cgroup that it is born in or enters.
    pub cgroup: &'b Cgroup,
    /// Who clones it.
    pub cradle: Cradle,
    /// The listening start socket on which it waits for start.
    pub start_socket: Option<OwnedFd>,
    /// Its standard streams; none for this process's own.
    pub stdio: Option<[OwnedFd; 3]>,
    /// The init of the container that it enters.
    pub container: Option<OwnedFd>,
}

/// The process that clones a child. No container can write to what it and the child run from.
#[derive(Debug)]
pub enum Cradle {
    /// This one: a worker of the launcher.
    Here(Here),
    /// A small one beside this one: the command line's.
    Stage(Stage),
}

/// A child on its way through the plan.
#[derive(Debug)]
pub struct Child<'a> {
    plan: &'a Plan,
    /// Its number, here.
    pub pid: Pid,
    /// Refers to it for good.
    pub pidfd: OwnedFd,
    /// The caller's end of its terminal.
    pub terminal: Option<OwnedFd>,
    channel: OwnedFd,
    /// Whether it is in the unified hierarchy's cgroup by birth.
    born_inside: bool,
    /// Who cloned it, and is waited for when nothing else is left to do.
    _stage: Option<Stage>,
}

/// A child that is being cloned.
#[derive(Debug)]
pub struct Launched<'a> {
    plan: &'a Plan,
    channel: OwnedFd,
    by: By,
}

#[derive(Debug)]
enum By {
    Here(Newborn),
    Stage(Stage),
}

impl<'a> Launch<'a, '_> {
    /// Has the child cloned, which starts on the plan at once. There is time until it needs its
    /// cgroup, and with a stage until there is a child.
    ///
    /// # Errors
    /// A namespace that cannot be joined or made here.
    pub fn begin(self) -> Result<Launched<'a>> {
        own_mounts::refuse(self.plan)?;
        crate::debug(self.plan);
        let (channel, theirs) =
            socket::pair().map_err(|errno| Error::call("socketpair", "for the child", errno))?;
        let Launch { plan, cgroup, cradle, start_socket, stdio, container } = self;
        let born_in = cgroup.unified_fd()?;
        let inherited = Inherited { channel: theirs, start_socket, stdio, container };
        let by = match cradle {
            Cradle::Here(here) => By::Here(here.clone(plan, born_in, inherited)?),
            Cradle::Stage(stage) => {
                stage.order(plan, born_in, &inherited)?;
                By::Stage(stage)
            }
        };
        Ok(Launched { plan, channel, by })
    }
}

impl<'a> Launched<'a> {
    /// The child; `announce` is told of it, and of what went before it.
    ///
    /// # Errors
    /// As of [`Launch::begin`].
    pub fn child(self, mut announce: Option<Announce<'_>>) -> Result<Child<'a>> {
        let Launched { plan, channel, by } = self;
        let (newborn, stage) = match by {
            By::Here(newborn) => (newborn, None),
            By::Stage(stage) => (stage.newborn()?, Some(stage)),
        };
        let Newborn { pid, pidfd, born_inside } = newborn;
        let mut child =
            Child { plan, pid, pidfd, terminal: None, channel, born_inside, _stage: stage };
        child.await_second_birth(announce.as_mut())?;
        if let Some(announce) = announce {
            announce(Announced::Child(child.pid, child.pidfd.as_fd()));
        }
        Ok(child)
    }
}

/// What the parent does at the plan's waits, besides id maps.
pub trait Duties {
    /// Opens what lets the child into its cgroup: without that of the unified hierarchy if it was
    /// born there.
    fn cgroup(&mut self, born_inside: bool) -> Result<Vec<OwnedFd>>;
    /// The container's state as hooks read it, and the hooks that run in the runtime's namespaces.
    fn hooks(&mut self, point: HookPoint) -> Result<Vec<u8>>;
    /// Hand the listener of the child's filter to the agent that answers.
    fn listener(&mut self, pid: Pid, listener: OwnedFd) -> Result<()>;
}

impl Child<'_> {
    /// Does what the child waits for, until it is ready to start.
    ///
    /// # Errors
    /// The child's failed step, or the parent's own.
    pub fn attend(&mut self, duties: &mut impl Duties) -> Result<()> {
        self.provide(duties).map_err(|error| self.last_words().unwrap_or(error))?;
        loop {
            match self.receive()? {
                Some(Message::Terminal(terminal)) => self.terminal = Some(terminal),
                Some(Message::Born(..)) => return Err(second_birth::out_of_turn()),
                Some(Message::Listener(listener)) => duties.listener(self.pid, listener)?,
                Some(Message::Reached(index)) => {
                    match self.plan.step(index).and_then(|planned| planned.step.wait()) {
                        Some(Wait::Hooks(point)) => {
                            let state = duties.hooks(point)?;
                            self.answer(&state)?;
                        }
                        Some(Wait::NetDevices) => {
                            net_devices::attach(self)?;
                            self.answer(b"devices")?;
                        }
                        _ => return Ok(()),
                    }
                }
                Some(failed @ Message::Failed { .. }) => return Err(explain(self.plan, failed)),
                None => return Err(died(self.plan)),
            }
        }
    }

    /// What does not wait for the child to ask.
    fn provide(&self, duties: &mut impl Duties) -> Result<()> {
        if let Some(maps) = &self.plan.born.id_maps {
            id_maps::write(self.pid, maps, "$.linux")?;
            if let Some(value) = self.plan.born.oom_score_adj {
                write_oom_score_adj(&self.pid.to_string(), value)?;
            }
            self.answer(b"maps")?;
        }
        if !self.plan.mapped.is_empty() {
            self.send_sources()?;
        }
        if self.plan.steps.iter().any(|planned| planned.step.wait() == Some(Wait::Cgroup)) {
            let entrances = duties.cgroup(self.born_inside)?;
            let fds: Vec<_> = entrances.iter().map(AsFd::as_fd).collect();
            self.sent(socket::send(&self.channel, b"cgroup", &fds))?;
        }
        Ok(())
    }

    /// Why the child has ended, if it has: what then fails on our side is only the consequence.
    pub fn last_words(&self) -> Option<Error> {
        let mut fds = [nix::poll::PollFd::new(self.channel.as_fd(), nix::poll::PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO) {
            Ok(1) => {}
            _ => return None,
        }
        match self.receive() {
            Ok(Some(failed @ Message::Failed { .. })) => Some(explain(self.plan, failed)),
            _ => None,
        }
    }

    /// Lets a child that waits for its parent run its program, and sees that it does.
    ///
    /// # Errors
    /// The program cannot be executed.
    pub fn go(&self, state: &[u8]) -> Result<()> {
        let waits = Some(Wait::Start(StartSignal::Parent));
        if self.plan.steps.iter().any(|planned| planned.step.wait() == waits) {
            self.answer(if state.is_empty() { b"go" } else { state })?;
        }
        ran(self.plan, &self.channel)
    }

    /// Ends a child that is not wanted any more, and everything in its pid namespace.
    pub fn kill(&self) {
        let _ = pidfd::send_signal(&self.pidfd, libc::SIGKILL);
        let mut fds = [nix::poll::PollFd::new(self.pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        // Its cgroup cannot be removed before it is gone.
        while nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE) == Err(Errno::EINTR) {}
        // Where it is a sibling, the parent of both reaps it.
        let _ = pidfd::reap(&self.pidfd, false);
    }

    fn answer(&self, message: &[u8]) -> Result<()> {
        self.sent(init::send_text(self.channel.as_fd(), message))
    }

    fn sent(&self, sent: nix::Result<()>) -> Result<()> {
        match sent {
            // It has failed already; what it has to say is about to be received.
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Error::call("sendmsg", "to the child", errno)),
        }
    }

    fn receive(&self) -> Result<Option<Message>> {
        init::receive(self.channel.as_fd())
            .map_err(|errno| Error::call("recvmsg", "from the child", errno))
    }

    /// A namespace of the child, by its name in /proc/PID/ns.
    fn namespace(&self, name: &str) -> Result<OwnedFd> {
        let opened = open_namespace(&format!("/proc/{}/ns/{name}", self.pid))?;
        // It was the child's as long as the child is there: else the number may be another's.
        pidfd::send_signal(&self.pidfd, 0)
            .map_err(|errno| Error::call("pidfd_send_signal", "to the child", errno))?;
        Ok(opened)
    }

    fn send_sources(&self) -> Result<()> {
        let sources = id_mapped::open(self)?;
        let fds: Vec<_> = sources.iter().map(AsFd::as_fd).collect();
        fds.chunks(socket::MOST_FDS)
            .try_for_each(|fds| self.sent(socket::send(&self.channel, b"sources", fds)))
    }
}

fn open_namespace(path: &str) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::path_call("open", path, errno))
}

fn write_oom_score_adj(process: &str, value: i32) -> Result<()> {
    let path = format!("/proc/{process}/oom_score_adj");
    std::fs::write(&path, value.to_string())
        .map_err(|error| Error::io("write", &path, &error).asked_by("$.process.oomScoreAdj"))
}

/// Waits until the program runs: the child's end of the channel closes on exec.
///
/// # Errors
/// The program cannot be executed, or a hook before it failed.
pub fn ran(plan: &Plan, channel: &OwnedFd) -> Result<()> {
    match init::receive(channel.as_fd()) {
        Ok(None) => Ok(()),
        Ok(Some(message)) => Err(explain(plan, message)),
        Err(errno) => Err(Error::call("recvmsg", "from the container's init", errno)),
    }
}

/// The error that a message of a failed init means.
pub fn explain(plan: &Plan, message: Message) -> Error {
    match message {
        Message::Failed { step, call, errno, detail } => {
            failed_step(plan, step, &call, errno, detail)
        }
        _ => second_birth::out_of_turn(),
    }
}

fn failed_step(
    plan: &Plan,
    step: usize,
    call: &str,
    errno: Errno,
    detail: Option<String>,
) -> Error {
    let Some(planned) = plan.step(step) else {
        return Error::call(call, "in the container's init", errno);
    };
    let error = match planned.step {
        // Which one it was and what asked for it is in there.
        Step::Hooks(_) => return Error::new(Kind::Other, detail.unwrap_or_default()),
        Step::NoProgram => crate::plan::process_required(),
        ref step => Error::step(&step.to_string(), call, path_of(step), errno, detail),
    };
    let error = hints::for_step(error, &planned.step, errno);
    match &planned.asked_by {
        Some(asked_by) => error.asked_by(asked_by),
        None => error,
    }
}

/// The path in the container that a step is about.
fn path_of(step: &Step) -> Option<String> {
    let path = match step {
        Step::Mount(mount) => &mount.target,
        Step::Bind(bind) => &bind.target,
        Step::Device(device) => &device.path,
        Step::FindProgram { name, .. } => name,
        Step::Exec { argv, .. } => argv.as_slice().first()?,
        Step::OpenNamespace { path, .. }
        | Step::AttachRootfs { path }
        | Step::MountRootfs { path, .. }
        | Step::Sysctl { path, .. }
        | Step::Link { path, .. }
        | Step::MakeDir(path)
        | Step::Relabel { target: path, .. }
        | Step::Mask(path)
        | Step::ReadOnly(path)
        | Step::Chdir(path)
        | Step::Remount { target: path, .. } => path,
        _ => return None,
    };
    Some(path.to_string_lossy().into_owned())
}

fn died(plan: &Plan) -> Error {
    let error = Error::new(Kind::Other, "the container's init was killed while it was set up");
    if plan.steps.iter().any(|planned| matches!(planned.step, Step::LoadFilter(_))) {
        return error.asked_by("$.linux.seccomp").hint(
            "its filter may kill it for a call that it makes after loading it: with \
             $.process.noNewPrivileges, that is execve(2) alone",
        );
    }
    if plan.cgroup.is_empty() {
        return error;
    }
    error.hint("its memory limit may be too low to set it up in")
}
