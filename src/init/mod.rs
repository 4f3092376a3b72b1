//! The child: it walks the plan's steps and becomes the container's program.
//!
//! It parses nothing and chooses nothing. It is born by a clone of a process
//! with one thread, in the new namespaces, with the host's tree still in
//! sight, and ends in execve(2) or in a message that says which step failed.

mod again;
mod channel;
mod copy_up;
mod devices;
mod filesystem;
mod home;
mod host_mounts;
mod keyring;
mod mounts;
mod move_root;
mod process;
mod propagation;
mod terminal;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

pub use channel::{Message, receive, receive_text, send_text};

use crate::hooks;
use crate::interrupt::never;
use crate::plan::Plan;
use crate::plan::step::{HookPoint, StartSignal, Step};
use crate::sys::clone::SingleThreaded;
use crate::sys::{clone, fds, pidfd, privilege, socket};

/// What ends a program that has no word to say to it (signal(7)).
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// What the child is born with, besides the plan.
#[derive(Debug)]
pub struct Inherited {
    /// To the parent.
    pub channel: OwnedFd,
    /// The listening start socket of a container that is created first.
    pub start_socket: Option<OwnedFd>,
    /// Standard input, output and error; none to keep those of the parent.
    pub stdio: Option<[OwnedFd; 3]>,
    /// The init of the container to enter.
    pub container: Option<OwnedFd>,
}

impl Inherited {
    /// Lets go of the parent's other descriptors. A container that is created may wait for its
    /// start for long: it must neither keep the parent's files and locks alive nor show them to
    /// what runs inside.
    fn close_all_else(&self, plan: &Plan) -> nix::Result<()> {
        let preserved = plan.steps.iter().find_map(|planned| match planned.step {
            Step::CloseDescriptors { keep } => Some(keep),
            _ => None,
        });
        let mut kept = vec![self.channel.as_fd()];
        kept.extend(self.start_socket.iter().chain(&self.container).map(AsFd::as_fd));
        kept.extend(self.stdio.iter().flatten().map(AsFd::as_fd));
        fds::close_all_but(3 + preserved.unwrap_or(0), &kept)
    }
}

/// Why a step failed.
#[derive(Debug)]
struct Failure {
    call: &'static str,
    errno: Errno,
    detail: String,
}

impl Failure {
    fn new(call: &'static str, errno: Errno) -> Self {
        Failure { call, errno, detail: String::new() }
    }

    /// For `map_err`: names the call that failed.
    fn of(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Failure::new(call, errno)
    }
}

type Done = Result<(), Failure>;

/// The container's root, by descriptor.
enum Root<'a> {
    /// The rootfs, while `/` is still the host's.
    Aside(BorrowedFd<'a>),
    /// What `/` is by now.
    Current(OwnedFd),
}

impl AsFd for Root<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Root::Aside(root) => *root,
            Root::Current(root) => root.as_fd(),
        }
    }
}

struct Child<'plan> {
    plan: &'plan Plan,
    channel: OwnedFd,
    start_socket: Option<OwnedFd>,
    /// Who said start, and hears of a failed exec.
    starter: Option<OwnedFd>,
    stdio: Option<[OwnedFd; 3]>,
    container: Option<OwnedFd>,
    namespaces: Vec<OwnedFd>,
    /// Shown at the start, while the host's /proc is in sight, where the plan clones again.
    one_thread: Option<SingleThreaded>,
    /// What is to be bound.
    sources: Vec<Option<OwnedFd>>,
    /// The rootfs, until it is `/`.
    root: Option<OwnedFd>,
    masks: mounts::Masks,
    program: Option<&'plan CStr>,
    /// `HOME=…`, where the config leaves it out.
    home: Option<CString>,
    /// The container's state as hooks read it.
    state: Vec<u8>,
}

/// Walks the plan. Never returns.
pub fn run(plan: &Plan, inherited: Inherited) -> ! {
    if let Err(errno) = inherited.close_all_else(plan) {
        channel::send_failed(inherited.channel.as_fd(), 0, &Failure::new("close_range", errno));
        clone::exit_now(1);
    }
    let Inherited { channel, start_socket, stdio, container } = inherited;
    let mut child = Child {
        plan,
        channel,
        start_socket,
        starter: None,
        stdio,
        container,
        namespaces: Vec::new(),
        one_thread: plan.clones_again().then(SingleThreaded::prove).flatten(),
        sources: Vec::new(),
        root: None,
        masks: mounts::Masks::default(),
        program: None,
        home: None,
        state: Vec::new(),
    };
    // ps(1) on the host shows what this process is until the container's program takes its place.
    let _ = privilege::set_name(c"rsc:[init]");
    // Modes in the plan are exact.
    nix::sys::stat::umask(Mode::empty());
    for (index, planned) in plan.steps.iter().enumerate() {
        if let Err(failure) = child.step(index, &planned.step) {
            channel::send_failed(child.listener(), index, &failure);
            clone::exit_now(1);
        }
    }
    // The last step of a plan is exec, which does not return when it succeeds.
    clone::exit_now(1)
}

impl<'plan> Child<'plan> {
    /// Who hears of a failure: the starter once there is one, before that the parent.
    fn listener(&self) -> BorrowedFd<'_> {
        self.starter.as_ref().unwrap_or(&self.channel).as_fd()
    }

    fn step(&mut self, index: usize, step: &'plan Step) -> Done {
        match step {
            Step::AwaitIdMaps => {
                self.hear()?;
                // Where an ordinary user wrote the maps, this process was open to it till now.
                privilege::set_dumpable(false).map_err(Failure::of("prctl"))
            }
            Step::TimeNamespace { offsets } => process::enter_time_namespace(offsets),
            Step::JoinCgroup => self.join_cgroup(),
            Step::BecomeRoot => set_user(0, 0, None),
            Step::OpenNamespace { path, .. } => self.open_namespace(path),
            Step::JoinNamespace { slot, kind } => {
                pidfd::setns(&self.namespaces[*slot], kind.flag()).map_err(Failure::of("setns"))
            }
            Step::JoinContainer { namespaces } => self.join_container(*namespaces),
            Step::NewSession => new_session(),
            Step::SessionKeyring { name, permissions, label } => {
                keyring::join(name, *permissions, label.as_deref())
            }
            Step::OomScoreAdj { value, by_user } => {
                let value = value.to_string();
                process::write_own(c"/proc/self/oom_score_adj", value.as_bytes(), *by_user)
            }
            Step::Hostname(name) => {
                nix::unistd::sethostname(std::ffi::OsStr::new(&*name.to_string_lossy()))
                    .map_err(Failure::of("sethostname"))
            }
            Step::Domainname(name) => {
                privilege::set_domainname(name).map_err(Failure::of("setdomainname"))
            }
            Step::LoopbackUp => crate::sys::net::loopback_up().map_err(Failure::of("ioctl")),
            Step::Sysctl { path, value } => process::write_sysctl(path, value),
            Step::ExecLabel { module, label } => process::write_exec_label(*module, label),
            Step::Unshare { namespaces } => {
                nix::sched::unshare(nix::sched::CloneFlags::from_bits_retain(*namespaces))
                    .map_err(Failure::of("unshare"))
            }
            Step::TimeOffsets { offsets, by_user } => {
                process::write_own(c"/proc/self/timens_offsets", offsets.as_bytes(), *by_user)
            }
            Step::CloneAgain { namespaces } => self.clone_again(*namespaces),
            Step::AwaitNetDevices => self.await_parent(index),
            Step::Hooks(point) => self.hooks(index, *point),
            Step::AwaitStart(signal) => self.await_start(index, *signal),
            Step::Ready => self.tell(index),
            Step::Terminal { size, owner, console, plain_lines } => {
                self.terminal(*size, *owner, *console, *plain_lines)
            }
            Step::Stdio { owner } => self.take_stdio(*owner),
            Step::DetachPropagation(_)
            | Step::DetachMountOf { .. }
            | Step::AttachRootfs { .. }
            | Step::MountRootfs { .. }
            | Step::OpenSource { .. }
            | Step::AwaitSources { .. }
            | Step::Mount(_)
            | Step::Bind(_)
            | Step::Remount { .. }
            | Step::Device(_)
            | Step::Link { .. }
            | Step::MakeDir(_)
            | Step::Relabel { .. }
            | Step::LabelMasks(_)
            | Step::Mask(_)
            | Step::ReadOnly(_)
            | Step::Pivot
            | Step::MoveRoot
            | Step::Chroot
            | Step::RootAttributes { .. } => self.mount_step(step),
            _ => self.process_step(step),
        }
    }

    /// The root that paths inside the container start from.
    fn root(&self) -> Result<Root<'_>, Failure> {
        match &self.root {
            Some(root) => Ok(Root::Aside(root.as_fd())),
            None => open_path(c"/").map(Root::Current),
        }
    }

    fn open_namespace(&mut self, path: &CStr) -> Done {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace = open(path, flags, Mode::empty()).map_err(Failure::of("open"))?;
        self.namespaces.push(namespace);
        Ok(())
    }

    fn join_container(&mut self, namespaces: i32) -> Done {
        let container = self.container.as_ref().ok_or(Failure::new("setns", Errno::EBADF))?;
        pidfd::setns(container, namespaces).map_err(Failure::of("setns"))
    }

    fn join_cgroup(&mut self) -> Done {
        // With the word come files of the cgroup that move whoever writes `0` there.
        let entrances = self.hear_descriptors()?;
        entrances.into_iter().try_for_each(|entrance| {
            nix::unistd::write(entrance, b"0").map(drop).map_err(Failure::of("write"))
        })
    }

    /// Waits for the parent. Its end closed means that it died: then nobody wants this child.
    fn hear(&self) -> Result<Vec<u8>, Failure> {
        match channel::receive_text(self.channel.as_fd()) {
            Ok(Some(text)) => Ok(text),
            Ok(None) => clone::exit_now(1),
            Err(errno) => Err(Failure::new("recvmsg", errno)),
        }
    }

    /// Tells the parent how far the plan is done.
    fn tell(&self, index: usize) -> Done {
        channel::send_reached(self.channel.as_fd(), index).map_err(Failure::of("sendmsg"))
    }

    /// Lets the parent do what it does in the meantime.
    fn await_parent(&self, index: usize) -> Done {
        self.tell(index)?;
        self.hear().map(drop)
    }

    /// Waits for the parent, who has something to hand over.
    fn hear_descriptors(&self) -> Result<Vec<OwnedFd>, Failure> {
        match channel::receive_descriptors(self.channel.as_fd()) {
            Ok(Some(descriptors)) => Ok(descriptors),
            Ok(None) => clone::exit_now(1),
            Err(errno) => Err(Failure::new("recvmsg", errno)),
        }
    }

    fn hooks(&mut self, index: usize, point: HookPoint) -> Done {
        let mut programs = match point {
            HookPoint::CreateRuntime => Vec::new(),
            HookPoint::CreateContainer => self.plan.hooks.create_container.clone(),
            HookPoint::StartContainer => self.plan.hooks.start_container.clone(),
        };
        // What runs them here is no program of the host's whose variables they could have.
        for program in &mut programs {
            program.env.get_or_insert_with(|| self.variables(point));
        }
        if point != HookPoint::StartContainer {
            self.tell(index)?;
            self.state = self.hear()?;
        }
        if let (HookPoint::CreateContainer, Some(root)) = (point, &self.root) {
            // The specification does not say where, and what was written for runc starts there.
            nix::unistd::fchdir(root).map_err(Failure::of("fchdir"))?;
        }
        hooks::run(&programs, &self.state, &mut never).map_err(|error| Failure {
            call: "hook",
            errno: error.errno().unwrap_or(Errno::ECHILD),
            detail: error.to_string(),
        })
    }

    /// What a hook has that has no word of its own: in the container that of its program. The
    /// specification does not say, and runc does so.
    fn variables(&self, point: HookPoint) -> Vec<CString> {
        let of_program = self.plan.steps.iter().find_map(|planned| match &planned.step {
            Step::Exec { envp, .. } if point == HookPoint::StartContainer => Some(envp),
            _ => None,
        });
        let own = of_program.map(|envp| envp.as_slice().iter().chain(&self.home));
        own.into_iter().flatten().cloned().collect()
    }

    fn await_start(&mut self, index: usize, signal: StartSignal) -> Done {
        if signal == StartSignal::Parent {
            self.tell(index)?;
            self.state = self.hear()?;
            return Ok(());
        }
        // Before anybody can know of it.
        privilege::end_on(&ENDING).map_err(Failure::of("sigaction"))?;
        self.tell(index)?;
        let socket = self.start_socket.take().ok_or(Failure::new("accept4", Errno::EBADF))?;
        let starter = socket::accept(&socket).map_err(Failure::of("accept4"))?;
        // From here on it hears of a failure.
        let starter = self.starter.insert(starter);
        match channel::receive_text(starter.as_fd()).map_err(Failure::of("recvmsg"))? {
            Some(state) => self.state = state,
            // It died before it could say so, and nobody else can.
            None => clone::exit_now(1),
        }
        Ok(())
    }
}

fn open_path(path: &CStr) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(Failure::of("open"))
}

fn set_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Done {
    privilege::set_user(uid, gid, groups).map_err(|(call, errno)| Failure::new(call, errno))
}

fn new_session() -> Done {
    nix::unistd::setsid().map(drop).map_err(Failure::of("setsid"))
}
