//! create, and create with start in one: `run`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::checkpoint::descriptors;
use super::delete::poststop;
use super::{Config, Created, notify};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::hooks;
use crate::interrupt::{Interrupt, never};
use crate::launch::{self, Announce, Child, Cradle, Duties, Launch};
use crate::plan::step::{HookPoint, StartSignal};
use crate::plan::{Facts, Plan, Situation};
use crate::resctrl::{Resctrl, ResctrlPlan};
use crate::state::{Folder, ProcessId, Root, State, Status};

/// Puts what is its own into a container's new folder.
pub type Furnish<'a> = &'a dyn Fn(&Folder) -> Result<()>;

/// What a container is created from.
pub struct Creation<'a> {
    /// Where its state goes.
    pub root: &'a Root,
    /// Its name.
    pub id: &'a str,
    /// The bundle's folder, absolute.
    pub bundle: &'a Path,
    /// The config, validated.
    pub config: Config,
    /// Start at once, or wait for `start`.
    pub start: StartSignal,
    /// Standard streams; none for this process's own.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Descriptors from 3 on that the program inherits.
    pub keep_descriptors: i32,
    /// Whether it has a session keyring of its own.
    pub session_keyring: bool,
    /// Whether what it says on its terminal ends up where no carriage return belongs.
    pub plain_lines: bool,
    /// Whether the host's tree goes, or stays below the rootfs.
    pub pivot: bool,
    /// Who makes the folder of the socket on which the program says that it is ready, if one is to.
    pub notify: Option<Furnish<'a>>,
    /// The host.
    pub facts: &'a Facts,
    /// Who is told what the specification wants said and not refused.
    pub warn: &'a dyn Fn(&str),
    /// Who clones its init.
    pub cradle: Cradle,
    /// Who is told of the child as soon as there is one.
    pub announce: Option<Announce<'a>>,
}

/// A process in a container, as its launcher sees it.
#[derive(Debug)]
pub struct Running {
    /// Its number on the host.
    pub pid: Pid,
    /// Refers to it for good.
    pub pidfd: OwnedFd,
    /// The caller's end of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Creates a container; with [`StartSignal::Parent`], starts it too.
///
/// # Errors
/// The config is not valid or cannot be had on this host; the id is taken; a step failed. Nothing
/// of the container is left then.
pub fn create(mut creation: Creation<'_>) -> Result<(Running, Created)> {
    // The id is part of the plan's paths: its faults would be reported as the config's.
    creation.root.check(creation.id)?;
    if creation.notify.is_some() {
        notify::pass_on(&mut creation.config.spec, &creation.root.notify(creation.id))?;
    }
    let situation = Situation {
        keep_descriptors: creation.keep_descriptors,
        session_keyring: creation.session_keyring,
        plain_lines: creation.plain_lines,
        pivot: creation.pivot,
        tree: creation.root.tree(creation.id),
        ..Situation::new(creation.id, creation.bundle, creation.start)
    };
    let plan = Plan::compile(&creation.config.spec, creation.facts, &situation)?;
    creation.config.warnings.iter().chain(&plan.warnings).for_each(|it| (creation.warn)(it));
    check_rootfs(&creation.config.spec, creation.bundle)?;
    let folder = creation.root.reserve(creation.id)?;
    let mut making = Making { plan: &plan, folder: Some(folder), state: None, child: None };
    making.carry_out(creation).inspect_err(|_| making.undo())
}

/// A container half made, and how to take it back.
struct Making<'a> {
    plan: &'a Plan,
    folder: Option<Folder>,
    state: Option<State>,
    child: Option<Child<'a>>,
}

impl<'a> Making<'a> {
    fn carry_out(&mut self, creation: Creation<'_>) -> Result<(Running, Created)> {
        let Some(folder) = self.folder.as_ref() else { return Err(taken()) };
        let start = creation.start;
        let start_socket = match start {
            StartSignal::Socket => Some(folder.listen_for_start()?),
            StartSignal::Parent => None,
        };
        // What exists from here on is on record first: whoever finds the record after this process
        // was killed can take it all away.
        let state = self.state.insert(new_state(&Origin::of(&creation), self.plan)?);
        folder.record(state)?;
        if self.plan.host_tree().is_some() {
            folder.make_tree()?;
        }
        creation.notify.map_or(Ok(()), |make| make(folder))?;
        state.cgroup = Cgroup::default();
        let resctrl = state.resctrl.take();
        state.cgroup = self.plan.cgroup.begin()?;
        let plan = self.plan;
        let launch = Launch {
            plan,
            cgroup: &state.cgroup,
            cradle: creation.cradle,
            start_socket,
            stdio: creation.stdio,
            container: None,
        };
        let launched = launch.begin()?;
        // The child is being cloned, or mounts.
        let made =
            plan.cgroup.finish(&mut state.cgroup).and_then(|()| plan.cgroup.limit(&state.cgroup));
        let child = self.child.insert(launched.child(creation.announce)?);
        // A child that failed at once may have been reaped by now.
        state.init = ProcessId::of(child.pid).map_err(|errno| {
            let unread = || Error::path_call("read", format!("/proc/{}/stat", child.pid), errno);
            child.last_words().unwrap_or_else(unread)
        })?;
        folder.record_init(state.init)?;
        made.map_err(|error| child.last_words().unwrap_or(error))?;
        child.attend(&mut Parent { plan: self.plan, state, resctrl })?;
        folder.publish(state)?;
        if start == StartSignal::Parent {
            child.go(&state.to_oci_json(Status::Created))?;
            poststart(state, &mut never)?;
        }
        let (Some(child), Some(folder), Some(state)) =
            (self.child.take(), self.folder.take(), self.state.take())
        else {
            return Err(taken());
        };
        let Child { pid, pidfd, terminal, .. } = child;
        Ok((Running { pid, pidfd, terminal }, Created::new(folder, state)))
    }

    /// Nothing is left of a container that could not be made.
    fn undo(&mut self) {
        let had_child = self.child.is_some();
        if let Some(child) = self.child.take() {
            child.kill();
        }
        // Before any hook, which may want to unmount what the rootfs or a volume is on.
        let _ = self.folder.as_ref().map(Folder::remove_tree);
        if let Some(state) = self.state.take() {
            forget(state, had_child);
        }
        if let Some(folder) = self.folder.take() {
            let _ = folder.remove();
        }
    }
}

/// Takes back what was made for a container that came to nothing. Other hooks may have run
/// (`hooked`), and those of poststop undo what they did (runtime.md#lifecycle: after a failed hook
/// the lifecycle goes on at step 12).
pub(super) fn forget(mut state: State, hooked: bool) {
    // The error that led here is the one to report.
    let _ = std::mem::take(&mut state.cgroup).take_back();
    let _ = state.resctrl.take().map(|resctrl| resctrl.delete());
    if hooked {
        let _ = poststop(&state, &mut never);
    }
}

fn taken() -> Error {
    Error::new(Kind::Other, "the container's making is over")
}

/// poststart hooks; a failing one ends the container (runtime.md#lifecycle, step 9).
pub(super) fn poststart(state: &State, interrupt: Interrupt<'_>) -> Result<()> {
    if state.hooks.poststart.is_empty() {
        return Ok(());
    }
    hooks::run(&state.hooks.poststart, &state.to_oci_json(Status::Running), interrupt)
}

struct Parent<'a> {
    plan: &'a Plan,
    state: &'a mut State,
    /// As it is on record, and not made yet.
    resctrl: Option<Resctrl>,
}

impl Duties for Parent<'_> {
    fn cgroup(&mut self, born_inside: bool) -> Result<Vec<OwnedFd>> {
        if let (Some(plan), Some(intended)) = (&self.plan.resctrl, self.resctrl.take()) {
            self.state.resctrl = Some(plan.make(intended, self.state.init.pid)?);
        }
        self.plan.cgroup.enter(&mut self.state.cgroup, Pid::from_raw(self.state.init.pid))?;
        self.state.cgroup.entrances(!born_inside)
    }

    fn hooks(&mut self, point: HookPoint) -> Result<Vec<u8>> {
        // Hooks run after step 2 of the lifecycle, which is when "created" begins (runtime.md#state).
        let state = self.state.to_oci_json(Status::Created);
        if point == HookPoint::CreateRuntime {
            hooks::run(&self.plan.hooks.create_runtime, &state, &mut never)?;
        }
        Ok(state)
    }

    fn listener(&mut self, pid: Pid, listener: OwnedFd) -> Result<()> {
        let Some(to) = &self.plan.listener else { return Ok(()) };
        launch::send_listener(to, &listener, pid, self.state, Status::Creating)
    }
}

/// What of a container's making is on record.
pub(super) struct Origin<'a> {
    pub(super) id: &'a str,
    pub(super) bundle: &'a Path,
    pub(super) config: &'a Config,
    pub(super) session_keyring: bool,
    pub(super) stdio: Option<&'a [OwnedFd; 3]>,
}

impl<'a> Origin<'a> {
    fn of(creation: &'a Creation<'_>) -> Self {
        let Creation { id, bundle, config, session_keyring, stdio, .. } = creation;
        Origin { id, bundle, config, session_keyring: *session_keyring, stdio: stdio.as_ref() }
    }
}

pub(super) fn new_state(origin: &Origin<'_>, plan: &Plan) -> Result<State> {
    let spec = &origin.config.spec;
    Ok(State {
        oci_version: spec.version().clone(),
        id: origin.id.to_owned(),
        init: ProcessId::default(),
        published: false,
        bundle: origin.bundle.to_owned(),
        // Where the mounts are, for hooks that look into the container.
        rootfs: plan.host_tree().map_or_else(|| rootfs(spec, origin.bundle), Path::to_owned),
        created: now(),
        owner: nix::unistd::geteuid().as_raw(),
        annotations: spec
            .annotations()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        cgroup: plan.cgroup.intended(),
        resctrl: plan.resctrl.as_ref().map(ResctrlPlan::intended).transpose()?,
        session_keyring: origin.session_keyring,
        descriptors: descriptors(origin.config, origin.stdio),
        hooks: plan.hooks.clone(),
        config: origin.config.raw.get().as_bytes().into(),
    })
}

pub(super) fn rootfs(spec: &Spec, bundle: &Path) -> PathBuf {
    spec.root().as_ref().map(|root| bundle.join(root.path())).unwrap_or_default()
}

/// Seen before anything is made, for the two mistakes that people make most.
pub(super) fn check_rootfs(spec: &Spec, bundle: &Path) -> Result<()> {
    let rootfs = rootfs(spec, bundle);
    let problem = |message: &str, hint: &str| {
        let value = Some(format!("{rootfs:?}"));
        Err(Error::spec("$.root.path", value, "config.md#root", message).hint(hint))
    };
    match std::fs::metadata(&rootfs) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => problem("the rootfs is not a folder", "unpack the archive into a folder first"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => problem(
            "there is no such rootfs",
            "unpack an image's file system there, or point $.root.path at one",
        ),
        Err(error) => Err(Error::io("stat", &rootfs, &error).asked_by("$.root.path")),
    }
}

/// Now as RFC 3339 in UTC, to the nanosecond as runc has it.
pub(crate) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let (second, nanos) = (second % 60, now.subsec_nanos());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The Gregorian date of a day after 1970-01-01, counted in years that begin in March, so that the
/// leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    const FROM_YEAR_0: u64 = 719_468;
    let days = days + FROM_YEAR_0;
    let era = days / DAYS_IN_400_YEARS;
    let day = days % DAYS_IN_400_YEARS;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, in_month)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_have_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_780), (2026, 11, 23));
    }
}
