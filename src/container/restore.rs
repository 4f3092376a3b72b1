//! restore: a container made of processes that were written to disk.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::checkpoint::CONFIG_FILE;
use super::create::{Origin, check_rootfs, forget, new_state, rootfs};
use super::{Config, Created, Running};
use crate::cgroup::Cgroup;
use crate::criu::{Notification, Options, Parent, Program, Restore, Tree};
use crate::error::{Error, Kind, Result};
use crate::hooks;
use crate::interrupt::never;
use crate::launch::{Announce, Announced};
use crate::plan::step::{Namespace, StartSignal, Step};
use crate::plan::{Facts, Plan, Situation};
use crate::resctrl::Resctrl;
use crate::state::{Folder, ProcessId, Root, State, Status};
use crate::sys::{keyring, net, pidfd};

/// What a container is restored from.
pub struct Restoration<'a> {
    /// Where its state goes.
    pub root: &'a Root,
    /// Its name.
    pub id: &'a str,
    /// The bundle's folder, absolute.
    pub bundle: &'a Path,
    /// The config, validated: the one that the container had.
    pub config: Config,
    /// The images, and what is asked of them.
    pub options: &'a Options,
    /// criu.
    pub program: &'a Program,
    /// Whose child the container's init will be.
    pub parent: Parent,
    /// What its pipes become; none for this process's own streams.
    pub stdio: Option<[OwnedFd; 3]>,
    /// The host.
    pub facts: &'a Facts,
    /// Who is told what the specification wants said and not refused.
    pub warn: &'a dyn Fn(&str),
    /// Who is told of its init, and of a criu that has ended.
    pub announce: Option<Announce<'a>>,
}

/// Makes a container of the processes in a checkpoint's images; returns when they run.
///
/// # Errors
/// The config is not valid or cannot be had on this host; the id is taken; criu refuses. Nothing of
/// the container is left then.
pub fn restore(mut restoration: Restoration<'_>) -> Result<(Running, Created)> {
    let Restoration { root, id, bundle, .. } = restoration;
    root.check(id)?;
    // Its program is in the images, and the config need not name it.
    let situation = Situation::new(id, bundle, StartSignal::Socket);
    let plan = Plan::compile(&restoration.config.spec, restoration.facts, &situation)?;
    restoration.config.warnings.iter().chain(&plan.warnings).for_each(|it| (restoration.warn)(it));
    if plan.host_tree().is_some() {
        let why = "criu brings no mounts back into the host's mount namespace";
        return Err(Error::spec("$.linux.namespaces", None, "config-linux.md#namespaces", why)
            .hint("add {\"type\": \"mount\"} to it"));
    }
    check_rootfs(&restoration.config.spec, bundle)?;
    restoration.config.add_time_namespace();
    let folder = root.reserve(id)?;
    let mut returning = Returning {
        plan: &plan,
        folder,
        state: None,
        resctrl: None,
        hooked: false,
        init: None,
        announced: false,
        terminal: None,
    };
    match returning.carry_out(&mut restoration) {
        Ok((running, state)) => Ok((running, Created::new(returning.folder, state))),
        Err(error) => {
            returning.undo(restoration.announce);
            Err(error.context(format_args!("cannot restore container {id:?}")))
        }
    }
}

/// A container on its way back, and how to give it up.
struct Returning<'a> {
    plan: &'a Plan,
    folder: Folder,
    state: Option<State>,
    /// As it is on record, and not made yet.
    resctrl: Option<Resctrl>,
    /// Whether hooks have run, which poststop hooks undo.
    hooked: bool,
    init: Option<(Pid, OwnedFd)>,
    /// Whether its parent knows of the init.
    announced: bool,
    terminal: Option<OwnedFd>,
}

impl Returning<'_> {
    fn carry_out(&mut self, restoration: &mut Restoration<'_>) -> Result<(Running, State)> {
        let place = self.prepare(restoration)?;
        let spec = &restoration.config.spec;
        let rootfs = rootfs(spec, restoration.bundle);
        let annotated = spec.annotations().as_ref().and_then(|all| all.get(CONFIG_FILE));
        let restore = Restore {
            options: restoration.options,
            program: restoration.program,
            root: &place,
            plan: self.plan,
            stdio: restoration.stdio.as_ref().map(|stdio| stdio.each_ref().map(AsFd::as_fd)),
            config_file: annotated.map(String::as_str),
        };
        leave_session_keyring(self.plan)?;
        let tree = Tree::make(&rootfs, &place, self.plan)?;
        let started = restore.start(restoration.parent);
        tree.leave()?;
        let restorer = started?;
        let criu = restorer.process()?;
        let announce = &mut restoration.announce;
        let restored = self.enter(restorer.pid()).and_then(|()| {
            let mut notified = |notification| self.notified(notification, announce);
            restorer.carry_out(&mut notified, &mut never)
        });
        if let Some(announce) = announce {
            announce(Announced::Forerunner(criu.as_fd()));
        }
        restored?;
        match (self.init.take(), self.state.take()) {
            (Some((pid, pidfd)), Some(state)) => {
                Ok((Running { pid, pidfd, terminal: self.terminal.take() }, state))
            }
            (init, state) => {
                (self.init, self.state) = (init, state);
                Err(Error::new(Kind::Other, "criu did not tell who the container's init is"))
            }
        }
    }

    /// What exists from here on is on record first. Gives the folder that criu finds the root at.
    fn prepare(&mut self, restoration: &Restoration<'_>) -> Result<PathBuf> {
        let origin = Origin {
            id: restoration.id,
            bundle: restoration.bundle,
            config: &restoration.config,
            session_keyring: true,
            stdio: restoration.stdio.as_ref(),
        };
        let state = self.state.insert(new_state(&origin, self.plan)?);
        self.folder.record(state)?;
        state.cgroup = Cgroup::default();
        self.resctrl = state.resctrl.take();
        state.cgroup = self.plan.cgroup.create()?;
        let folder = self.folder.path();
        std::fs::canonicalize(folder).map_err(|error| Error::io("realpath", folder, &error))
    }

    /// The processes begin where criu is.
    fn enter(&mut self, criu: Pid) -> Result<()> {
        let Some(state) = &mut self.state else { return Ok(()) };
        if let (Some(plan), Some(intended)) = (&self.plan.resctrl, self.resctrl.take()) {
            state.resctrl = Some(plan.make(intended, criu.as_raw())?);
        }
        self.plan.cgroup.enter(&mut state.cgroup, criu)?;
        state.cgroup.join(criu)
    }

    fn notified(
        &mut self,
        notification: Notification,
        announce: &mut Option<Announce<'_>>,
    ) -> Result<()> {
        let Some(state) = &mut self.state else { return Ok(()) };
        let Notification { script, pid, terminal } = notification;
        match script.as_str() {
            "setup-namespaces" => {
                let init =
                    pidfd::open(pid).map_err(|errno| Error::call("pidfd_open", pid, errno))?;
                self.init = Some((pid, init));
                state.init = identify(pid)?;
                self.hooked = true;
                let programs = &self.plan.hooks.create_runtime;
                hooks::run(programs, &state.to_oci_json(Status::Created), &mut never)
            }
            // The processes are there and do not run yet.
            "post-restore" => {
                if let (Some(announce), Some((_, init))) = (announce, &self.init) {
                    announce(Announced::Child(pid, init.as_fd()));
                    self.announced = true;
                }
                if self.plan.born.namespaces & Namespace::Network.flag() != 0 {
                    loopback_up(pid)?;
                }
                self.folder.record_init(state.init)?;
                self.folder.publish(state)
            }
            "orphan-pts-master" => {
                self.terminal = terminal;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Nothing is left of a container that could not be restored.
    fn undo(mut self, announce: Option<Announce<'_>>) {
        // criu has ended its processes, but for one that had begun to run.
        if let Some((_, init)) = self.init.take() {
            let _ = pidfd::send_signal(&init, libc::SIGKILL);
            pidfd::await_end(&init);
            match announce.filter(|_| !self.announced) {
                Some(announce) => announce(Announced::Forerunner(init.as_fd())),
                // Ours, or its parent's to reap.
                None => drop(pidfd::reap(&init, false)),
            }
        }
        // The error that led here is the one to report.
        if let Some(state) = self.state.take() {
            forget(state, self.hooked);
        }
        let _ = self.folder.remove();
    }
}

fn identify(pid: Pid) -> Result<ProcessId> {
    ProcessId::of(pid).map_err(|errno| Error::path_call("read", format!("/proc/{pid}/stat"), errno))
}

/// What criu restores has criu's session keyring, which is this process's: the container's own takes
/// its place, as at its creation. One that is owned in a user namespace is made by who enters that.
fn leave_session_keyring(plan: &Plan) -> Result<()> {
    let keyrings = plan.steps.iter().filter(|_| plan.born.id_maps.is_none());
    for planned in keyrings {
        let Step::SessionKeyring { name, permissions, .. } = &planned.step else { continue };
        let joined = match keyring::join_session(name) {
            // A kernel without keys has none to keep apart; a filter that hides the call hides them.
            Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
            joined => joined.and_then(|key| {
                let own = keyring::permissions(key)?;
                keyring::set_permissions(key, own | permissions.unwrap_or(0))
            }),
        };
        joined.map_err(|errno| Error::call("keyctl", "for the container's keyring", errno))?;
    }
    Ok(())
}

/// criu makes the network namespace anew and leaves its devices to others: this one is the
/// runtime's, as when the container was created.
fn loopback_up(pid: Pid) -> Result<()> {
    let open = |process: &str| {
        let path = format!("/proc/{process}/ns/net");
        std::fs::File::open(&path).map_err(|error| Error::io("open", &path, &error))
    };
    let (home, namespace) = (open("self")?, open(&pid.to_string())?);
    let enter = |namespace| {
        pidfd::setns(namespace, libc::CLONE_NEWNET)
            .map_err(|errno| Error::call("setns", "for the container's network", errno))
    };
    enter(&namespace)?;
    let up = net::loopback_up().map_err(|errno| Error::call("ioctl", "SIOCSIFFLAGS of lo", errno));
    enter(&home)?;
    up
}
