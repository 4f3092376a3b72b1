//! The parent of the clone.
//!
//! While the child mounts, the parent writes the limits of the cgroup; the
//! child waits for what the parent owes only at the steps where the order
//! matters. The plan tells both sides what those are.

mod hints;
mod id_maps;
mod network;

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

pub use network::SpareNetwork;

use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::init::{self, Inherited, Message};
use crate::plan::Plan;
use crate::plan::step::{HookPoint, Step, Wait};
use crate::sys::clone::{CloneFlags, Cloned, SingleThreaded, clone3};
use crate::sys::{pidfd, privilege, socket};

/// What a child is launched with.
#[derive(Debug)]
pub struct Launch<'a, 'b> {
    /// What it does.
    pub plan: &'a Plan,
    /// The cgroup that it is born in or enters.
    pub cgroup: &'b Cgroup,
    /// This process has one thread.
    pub proof: SingleThreaded,
    /// Make it a sibling of this process: the parent that both have waits for it.
    pub sibling: bool,
    /// The listening socket on which it waits for start.
    pub start_socket: Option<OwnedFd>,
    /// Its standard streams; none for this process's own.
    pub stdio: Option<[OwnedFd; 3]>,
    /// The init of the container that it enters.
    pub container: Option<OwnedFd>,
    /// A new network namespace that this process is in, for a child that wants one.
    pub network: Option<SpareNetwork>,
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
}

impl<'a> Launch<'a, '_> {
    /// Clones the child, which starts on the plan at once.
    ///
    /// # Errors
    /// A namespace that cannot be joined or made here.
    pub fn clone(mut self) -> Result<Child<'a>> {
        let mut namespaces = self.plan.born.namespaces;
        // In a new user namespace the network must be that one's own, which this one is not.
        let wants_network =
            namespaces & libc::CLONE_NEWNET != 0 && namespaces & libc::CLONE_NEWUSER == 0;
        let network = self.network.take();
        let network = match network {
            Some(spare) if !wants_network => spare.leave().map(|()| None)?,
            network => network,
        };
        if network.is_some() {
            namespaces &= !libc::CLONE_NEWNET;
        }
        self.prepare()?;
        let (ours, theirs) =
            socket::pair().map_err(|errno| Error::call("socketpair", "for the child", errno))?;
        let born_in = self.cgroup.unified_fd()?;
        let mut flags = CloneFlags {
            namespaces: namespaces as u64,
            sibling: self.sibling,
            cgroup: born_in.as_ref().map(AsFd::as_fd),
        };
        // The files of a process that is not dumpable are root's, the one for its id maps too.
        let by_user = self.plan.born.id_maps.as_ref().is_some_and(|maps| maps.by_user);
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
        let born_inside = flags.cgroup.is_some();
        match cloned {
            Ok(Cloned::Child) => {
                let Launch { plan, start_socket, stdio, container, .. } = self;
                let channel = theirs;
                init::run(plan, Inherited { channel, start_socket, stdio, container })
            }
            Ok(Cloned::Parent(pid, pidfd)) => {
                network.map_or(Ok(()), SpareNetwork::leave)?;
                open_to_user(false)?;
                let plan = self.plan;
                Ok(Child { plan, pid, pidfd, terminal: None, channel: ours, born_inside })
            }
            Err(errno) => Err(hints::clone_failed(self.plan, errno)),
        }
    }

    /// The namespaces of the container that its new process has to be born in.
    fn enter_container(&self) -> Result<()> {
        let (Some(container), namespaces) = (&self.container, self.plan.born.enter_container)
        else {
            return Ok(());
        };
        if let Some(value) = self.plan.born.oom_score_adj {
            // Inherited. The file is this user's while the process is open to it.
            let opened = privilege::set_dumpable(true);
            opened.map_err(|errno| Error::call("prctl", "PR_SET_DUMPABLE", errno))?;
            write_oom_score_adj("self", value)?;
            let closed = privilege::set_dumpable(false);
            closed.map_err(|errno| Error::call("prctl", "PR_SET_DUMPABLE", errno))?;
        }
        if namespaces == 0 {
            return Ok(());
        }
        pidfd::setns(container, namespaces).map_err(|errno| hints::not_entered(self.plan, errno))
    }

    /// What only the children of this process see: it does not enter these namespaces itself.
    fn prepare(&self) -> Result<()> {
        self.enter_container()?;
        if let Some(path) = &self.plan.born.join_pid {
            let shown = path.to_string_lossy();
            let failed = |call: &str, errno| {
                Error::path_call(call, &*shown, errno)
                    .context("join pid namespace")
                    .asked_by("$.linux.namespaces")
            };
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let namespace = open(path.as_c_str(), flags, Mode::empty())
                .map_err(|errno| failed("open", errno))?;
            pidfd::setns(namespace, libc::CLONE_NEWPID).map_err(|errno| failed("setns", errno))?;
        }
        if let Some(offsets) = &self.plan.born.time_offsets {
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
}

/// What the parent does at the plan's waits, besides id maps.
pub trait Duties {
    /// Make what the child is about to enter, and open what lets it in: without that of the
    /// unified hierarchy if it was born there.
    fn cgroup(&mut self, born_inside: bool) -> Result<Vec<OwnedFd>>;
    /// The container's state as hooks read it, and the hooks that run in the runtime's namespaces.
    fn hooks(&mut self, point: HookPoint) -> Result<Vec<u8>>;
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
                Some(Message::Reached(index)) => {
                    match self.plan.step(index).and_then(|planned| planned.step.wait()) {
                        Some(Wait::Hooks(point)) => {
                            let state = duties.hooks(point)?;
                            self.answer(&state)?;
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
            id_maps::write(self.pid, maps)?;
            if let Some(value) = self.plan.born.oom_score_adj {
                write_oom_score_adj(&self.pid.to_string(), value)?;
            }
            self.answer(b"maps")?;
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
        self.answer(if state.is_empty() { b"go" } else { state })?;
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
        _ => Error::new(Kind::Other, "the container's init spoke out of turn"),
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
    let error = if let Step::Hooks(_) = planned.step {
        Error::new(Kind::Other, detail.unwrap_or_default())
    } else {
        Error::step(&planned.step.to_string(), call, path_of(&planned.step), errno, detail)
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
        | Step::Sysctl { path, .. }
        | Step::Link { path, .. }
        | Step::MakeDir(path)
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
    if plan.cgroup.is_empty() {
        return error;
    }
    error.hint("its memory limit may be too low to set it up in")
}
