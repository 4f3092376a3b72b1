//! `create`, `run` and `exec`: the commands that clone.

use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, LinuxNamespaceType, Process, Spec,
};

use super::args::{Common, Create, Exec, Run};
use super::notify::{self, Ear};
use super::{foreground, listening};
use crate::container::{self, Config, Created, Creation, Execution, Running};
use crate::error::{Error, Kind, Result};
use crate::helper::ProcessRequest;
use crate::launch::{Cradle, Image, Stage};
use crate::plan::step::StartSignal;
use crate::plan::{Facts, namespace_asked_for};
use crate::state::{Folder, Root};
use crate::sys::{pidfd, socket};

/// A path from the root of the file system, without asking whether it is there.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::io("getcwd", path, &error))
}

pub(super) fn create(root: &Root, asked: Create, stage: Stage) -> Result<u8> {
    let console = open_console(&asked.common)?;
    let ear = Ear::default();
    let (running, created) = make(root, &asked, StartSignal::Socket, true, stage, &ear)?;
    let handed_out = hand_out(&asked.common, &running, console);
    if handed_out.is_err() {
        // The error that led here is the one to report.
        let _ = created.delete();
    }
    handed_out.map(|()| 0)
}

pub(super) fn run(root: &Root, asked: Run, mut stage: Stage) -> Result<u8> {
    let remains = Remains { detach: asked.detach, keep: asked.keep };
    let image = stage.take_image();
    attended(&asked.create.common, remains, image, |ear| {
        make(root, &asked.create, StartSignal::Parent, asked.detach, stage, ear)
    })
}

/// Whether a container stays when its program runs, or has ended.
pub(super) struct Remains {
    pub(super) detach: bool,
    pub(super) keep: bool,
}

/// Stays with a container that `make` has running, from `image`, and takes it away at its end.
pub(super) fn attended(
    common: &Common,
    remains: Remains,
    image: Option<Image>,
    make: impl FnOnce(&Ear) -> Result<(Running, Created)>,
) -> Result<u8> {
    let Remains { detach, keep } = remains;
    let console = open_console(common)?;
    // Blocked before there is a container, so that none is lost on its way to it.
    let signals = (!detach).then(foreground::Signals::block).transpose()?;
    let ear = Ear::default();
    let (running, created) = make(&ear)?;
    if !detach {
        foreground::outlive_mounts(&running, image);
    }
    let joined = hand_out(common, &running, console)
        .and_then(|()| ear.attend(&running, detach))
        .and_then(|()| match &signals {
            Some(signals) => foreground::attend(&running, signals),
            None => Ok(0),
        });
    if detach && joined.is_ok() || keep {
        return joined;
    }
    let deleted = created.delete();
    joined.and_then(|code| deleted.map(|()| code))
}

fn make(
    root: &Root,
    asked: &Create,
    start: StartSignal,
    needs_console: bool,
    stage: Stage,
    ear: &Ear,
) -> Result<(Running, Created)> {
    let bundle = absolute(&asked.bundle)?;
    let mut config = Config::read(&bundle)?;
    check_console(&config, &asked.common, needs_console)?;
    if asked.systemd_cgroup {
        config.have_systemd_make_cgroups(&asked.id)?;
    }
    let passed = listening::pass_on(&mut config.spec);
    check_preserved(3 + passed, asked.common.preserve_fds)?;
    if wants_network(&config.spec) {
        stage.make_network();
    }
    let open_ear = |folder: &Folder| ear.open(start, folder);
    container::create(Creation {
        root,
        id: &asked.id,
        bundle: &bundle,
        config,
        start,
        stdio: None,
        keep_descriptors: i32::from(asked.common.preserve_fds) + passed,
        session_keyring: !asked.no_new_keyring,
        plain_lines: plain_lines(&asked.common),
        pivot: !asked.no_pivot,
        notify: notify::manager().is_some().then_some(&open_ear),
        facts: &Facts::probe()?,
        warn: &crate::warn,
        cradle: Cradle::Stage(stage),
        announce: None,
    })
}

/// A terminal has someone to hold its other end, and a console socket is there for one.
pub(super) fn check_console(config: &Config, common: &Common, needs_console: bool) -> Result<()> {
    let terminal = config.spec.process().as_ref().and_then(Process::terminal) == Some(true);
    let console = common.console_socket.is_some();
    if terminal && needs_console && !console {
        return Err(no_console("$.process.terminal"));
    }
    if !terminal && console {
        return Err(Error::new(Kind::Other, "a console socket is of no use without a terminal")
            .hint("set $.process.terminal, or leave --console-socket out"));
    }
    Ok(())
}

/// Whether a terminal's output goes to a file or a pipe, by this process's hands: a script that reads
/// it wants the lines, as it has them from runc.
fn plain_lines(common: &Common) -> bool {
    common.console_socket.is_none() && !std::io::stdout().is_terminal()
}

/// Refuses to hand on descriptors that the caller has not opened: it counts on the program having
/// them. What this process opened itself closes on exec, and what it inherited does not.
fn check_preserved(first: i32, count: u16) -> Result<()> {
    let inherited = |number: i32| {
        let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
        (flags & libc::O_CLOEXEC == 0).then_some(())
    };
    match (first..first + i32::from(count)).find(|number| inherited(*number).is_none()) {
        None => Ok(()),
        Some(number) => {
            let message = format!("--preserve-fds {count}: descriptor {number} is not open");
            Err(Error::new(Kind::Other, message).hint("open it, or preserve fewer"))
        }
    }
}

/// Whether the container has a network namespace that the host's root may make beforehand.
fn wants_network(spec: &Spec) -> bool {
    let asked = |typ| namespace_asked_for(spec, typ);
    asked(LinuxNamespaceType::Network).is_some_and(|network| network.path().is_none())
        && asked(LinuxNamespaceType::User).is_none()
}

fn no_console(at: &str) -> Error {
    Error::new(Kind::Other, "a terminal needs someone to hold its other end")
        .asked_by(at)
        .hint("pass --console-socket, or run in the foreground")
}

pub(super) fn exec(root: &Root, asked: Exec, stage: Stage) -> Result<u8> {
    check_preserved(3, asked.common.preserve_fds)?;
    let console = open_console(&asked.common)?;
    if asked.tty && asked.detach && console.is_none() {
        return Err(no_console("--tty"));
    }
    let signals = (!asked.detach).then(foreground::Signals::block).transpose()?;
    let running = container::exec(Execution {
        root,
        id: &asked.id,
        process: &|spec| process(&asked, spec),
        stdio: None,
        keep_descriptors: asked.common.preserve_fds.into(),
        cgroups: &asked.cgroup,
        plain_lines: plain_lines(&asked.common),
        ignore_paused: asked.ignore_paused,
        facts: &Facts::probe()?,
        warn: &crate::warn,
        cradle: Cradle::Stage(stage),
        announce: None,
    })?;
    // Who asked for it does not learn of it then, so nobody could end it later.
    hand_out(&asked.common, &running, console).inspect_err(|_| {
        let _ = pidfd::send_signal(&running.pidfd, libc::SIGKILL);
        let _ = reap(&running);
    })?;
    match &signals {
        Some(signals) => foreground::attend(&running, signals),
        None => Ok(0),
    }
}

fn process(asked: &Exec, spec: &Spec) -> Result<Process> {
    if let Some(file) = &asked.process {
        let text = std::fs::read(file).map_err(|error| Error::io("read", file, &error))?;
        let (mut process, warnings) =
            crate::spec::check_process(&text).map_err(|error| error.in_file(file))?;
        warnings.iter().for_each(|warning| crate::warn(&warning.to_string()));
        if asked.tty {
            process.set_terminal(Some(true));
        }
        return Ok(process);
    }
    if asked.command.is_empty() {
        return Err(Error::new(Kind::Other, "exec needs a program to run")
            .hint("name it after the container, or give --process"));
    }
    let mut env =
        spec.process().as_ref().and_then(|process| process.env().clone()).unwrap_or_default();
    // The last of a name counts.
    env.extend_from_slice(&asked.env);
    let request = ProcessRequest {
        args: asked.command.clone(),
        env: Some(env),
        cwd: asked.cwd.clone(),
        user: asked.user.as_deref().map(user).transpose()?,
        terminal: asked.tty,
    };
    let mut process = request.over(spec)?;
    if asked.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if !asked.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&asked.additional_gids);
        user.set_additional_gids(Some(groups));
        process.set_user(user);
    }
    add_capabilities(&mut process, &asked.cap)?;
    if asked.apparmor.is_some() {
        process.set_apparmor_profile(asked.apparmor.clone());
    }
    if asked.process_label.is_some() {
        process.set_selinux_label(asked.process_label.clone());
    }
    Ok(process)
}

/// Ambient only where it is inheritable, which that needs; so does runc.
fn add_capabilities(process: &mut Process, asked: &[String]) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_else(|| {
        let mut none = LinuxCapabilities::default();
        none.set_bounding(None).set_effective(None).set_permitted(None);
        none.set_inheritable(None).set_ambient(None);
        none
    });
    for name in asked {
        let capability: Capability =
            serde_json::from_value(name.as_str().into()).map_err(|_| {
                Error::new(Kind::Other, format!("--cap {name:?}: there is no such capability"))
                    .hint("capabilities(7) has their names, as in CAP_NET_ADMIN")
            })?;
        let with = |set: &Option<Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective) = (with(sets.bounding()), with(sets.effective()));
        let (permitted, ambient) = (with(sets.permitted()), with(sets.ambient()));
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        if sets.inheritable().as_ref().is_some_and(|set| set.contains(&capability)) {
            sets.set_ambient(ambient);
        }
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let number = |text: &str| {
        text.parse().map_err(|_| {
            Error::new(Kind::Other, format!("{text:?} is no user or group number"))
                .hint("give --user as UID or UID:GID")
        })
    };
    Ok((number(uid)?, gid.map(number).transpose()?))
}

/// Connected before anything is made, for it is the likeliest to fail.
fn open_console(common: &Common) -> Result<Option<OwnedFd>> {
    common.console_socket.as_deref().map(connect).transpose()
}

fn connect(path: &Path) -> Result<OwnedFd> {
    socket::connect_stream(path).map_err(|errno| Error::path_call("connect", path, errno))
}

/// Gives the engine what it asked for: terminal, pidfd, number.
fn hand_out(common: &Common, running: &Running, console: Option<OwnedFd>) -> Result<()> {
    if let (Some(socket), Some(terminal)) = (console, &running.terminal) {
        // The name goes along because runc sends one.
        socket::send(&socket, b"/dev/ptmx", &[terminal.as_fd()])
            .map_err(|errno| Error::call("sendmsg", "of the terminal", errno))?;
    }
    if let Some(path) = &common.pidfd_socket {
        socket::send(connect(path)?, b"pidfd", &[running.pidfd.as_fd()])
            .map_err(|errno| Error::call("sendmsg", "of the pidfd", errno))?;
    }
    match &common.pid_file {
        Some(path) => write_pid_file(path, running.pid.as_raw()),
        None => Ok(()),
    }
}

/// Whole or not at all: an engine may be waiting for the file to appear.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let beside = path.with_file_name(name);
    std::fs::write(&beside, pid.to_string())
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| Error::io("write", path, &error))
}

/// Waits for a process of ours.
pub(super) fn reap(running: &Running) -> Result<u8> {
    let status = pidfd::reap(&running.pidfd, true)
        .map_err(|errno| Error::call("waitid", running.pid, errno))?;
    Ok(status.map_or(255, |status| status.shell_code() as u8))
}
