//! `process`, as the last steps of create and of exec alike.

use std::collections::HashSet;
use std::ffi::CString;
use std::path::Path;
use std::str::FromStr;

use oci_spec::runtime::{Capabilities, LinuxCapabilities, PosixRlimitType, Process, Spec};

use super::seccomp::{self, Filter};
use super::step::{HookPoint, Namespace, StartSignal, Step};
use super::{Compiler, c_path, c_string};
use crate::error::{Error, Kind, Result};
use crate::sys::clone::Strings;
use crate::sys::privilege::CapabilitySets;
use crate::sys::pty::Size;

/// What the kernel falls back to when PATH is unset, as execvp(3) does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// For a config without one: create succeeds all the same (config.md#process), and what waits
/// for a start that must fail has no more rights than it needs for that.
pub(super) fn absent() -> Process {
    let mut process = Process::default();
    process.set_args(None).set_env(None).set_rlimits(None).set_capabilities(None);
    process
}

/// What `start` says of a container without a process.
pub fn required() -> Error {
    let message = "a container is started to run a process, and there is none";
    Error::spec("$.process", None, "config.md#process", message)
        .hint("delete it, add a process to its config, and create it anew")
}

impl Compiler<'_> {
    /// Its standard streams: a terminal, or what the caller passed.
    pub(super) fn streams(&mut self, process: &Process, console: bool) -> Result<()> {
        let uid = process.user().uid();
        let owner = (uid != 0).then_some(uid);
        if process.terminal() != Some(true) {
            self.push(Step::Stdio { owner }, "$.process.terminal");
            return Ok(());
        }
        let size = match process.console_size().filter(|size| size.height() + size.width() > 0) {
            Some(size) => Some(Size {
                rows: dimension(size.height(), "height")?,
                columns: dimension(size.width(), "width")?,
            }),
            None => None,
        };
        let plain_lines = self.situation.plain_lines;
        let step = Step::Terminal { size, owner, console, plain_lines };
        self.push(step, "$.process.terminal");
        Ok(())
    }

    /// From the limits to exec, in the order in which each step still has the privilege it needs.
    /// Without a `start`, nobody is waited for.
    pub(super) fn process(
        &mut self,
        spec: &Spec,
        process: &Process,
        start: Option<StartSignal>,
    ) -> Result<()> {
        let mut filter = self.filter(spec)?;
        let no_new_privileges = process.no_new_privileges() == Some(true);
        // Before the limits, of which one may leave no descriptor to open the folder with.
        let cwd = c_path(process.cwd(), || "$.process.cwd".to_owned())?;
        self.push(Step::Chdir(cwd), "$.process.cwd");
        for (index, limit) in process.rlimits().iter().flatten().enumerate() {
            let step = Step::Rlimit {
                resource: rlimit_number(limit.typ()),
                soft: limit.soft(),
                hard: limit.hard(),
            };
            self.push(step, format!("$.process.rlimits[{index}]"));
        }
        self.scheduling(process);
        self.execution_domain(spec)?;
        // From here on a filter may be loaded, and its profile older than close_range(2).
        self.push(Step::CloseDescriptors { keep: self.situation.keep_descriptors }, "");
        let bits = self.capability_sets(process.capabilities().as_ref());
        self.push(Step::DropBounding(!bits.bounding), "$.process.capabilities.bounding");
        if !no_new_privileges {
            // The kernel takes it from whoever has CAP_SYS_ADMIN, which goes with the next steps.
            self.load(filter.take());
        }
        self.identity(process, &bits)?;
        if process.args().is_some() && lacks_home(process) {
            self.push(Step::Home { uid: process.user().uid() }, "$.process.env");
        }
        if no_new_privileges {
            self.push(Step::NoNewPrivileges, "$.process.noNewPrivileges");
        }
        let umask = process.user().umask().unwrap_or(0o022) & 0o777;
        self.push(Step::Umask(umask), "$.process.user.umask");
        // Whoever hands on a listener may fail, and then the program must not run.
        let start = start.or(self.listener.is_some().then_some(StartSignal::Parent));
        self.program(process, filter, start.map_or(Step::Ready, Step::AwaitStart))
    }

    /// The filter of system calls, compiled.
    fn filter(&mut self, spec: &Spec) -> Result<Option<Filter>> {
        let linux = spec.linux().as_ref();
        let Some(config) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
            return Ok(None);
        };
        let seccomp::Compiled { filter, listener, warnings } =
            seccomp::compile(config, &self.facts.seccomp)?;
        self.listener = listener;
        self.warnings.extend(warnings);
        Ok(Some(filter))
    }

    fn load(&mut self, filter: Option<Filter>) {
        if let Some(filter) = filter {
            self.push(Step::LoadFilter(filter), "$.linux.seccomp");
        }
    }

    fn identity(&mut self, process: &Process, bits: &Bits) -> Result<()> {
        let user = process.user();
        let groups = user.additional_gids().clone().unwrap_or_default();
        if !self.setgroups && !groups.is_empty() {
            let message = "this container's user namespace lets nobody set groups";
            return Err(Error::new(Kind::Other, message)
                .asked_by("$.process.user.additionalGids")
                .hint("map ids of /etc/subgid in $.linux.gidMappings, or run as root"));
        }
        let groups = self.setgroups.then_some(groups);
        self.push(Step::User { uid: user.uid(), gid: user.gid(), groups }, "$.process.user");
        let Bits { sets, ambient, .. } = *bits;
        self.push(Step::Capabilities { sets, ambient }, "$.process.capabilities");
        Ok(())
    }

    /// Capabilities as bits; what cannot be granted is left out with a warning (config.md#linux-process).
    fn capability_sets(&mut self, wanted: Option<&LinuxCapabilities>) -> Bits {
        let Some(wanted) = wanted else { return Bits::default() };
        let grantable = if self.has(Namespace::User) { u64::MAX } else { self.facts.capabilities };
        let mut missing = 0;
        let mut grant = |set: &Option<Capabilities>| {
            let bits = set.iter().flatten().fold(0, |bits, capability| bits | bit(*capability));
            missing |= bits & !grantable;
            bits & grantable
        };
        let bits = Bits {
            bounding: grant(wanted.bounding()),
            sets: CapabilitySets {
                effective: grant(wanted.effective()),
                permitted: grant(wanted.permitted()),
                inheritable: grant(wanted.inheritable()),
            },
            ambient: grant(wanted.ambient()),
        };
        if missing != 0 {
            self.warnings.push(format!(
                "$.process.capabilities: ignoring unknown or unavailable capabilities: [{}]",
                super::display::capabilities(missing)
            ));
        }
        // The other sets are validated to agree; these are raised one by one, and prctl(2) refuses
        // just those that are not both permitted and inheritable.
        let ambient = bits.ambient & bits.sets.permitted & bits.sets.inheritable;
        let refused = bits.ambient & !ambient;
        if refused != 0 {
            self.warnings.push(format!(
                "$.process.capabilities.ambient: {} cannot be granted: not in both permitted and \
                 inheritable",
                super::display::capabilities(refused)
            ));
        }
        Bits { ambient, ..bits }
    }

    /// From finding the program to executing it, under the filter that is not loaded yet.
    fn program(
        &mut self,
        process: &Process,
        mut filter: Option<Filter>,
        ready: Step,
    ) -> Result<()> {
        let Some(args) = process.args() else {
            self.push(ready, "");
            self.push(Step::NoProgram, "$.process");
            return Ok(());
        };
        let no_strings = Vec::new();
        let env = process.env().as_ref().unwrap_or(&no_strings);
        let Some(name) = args.first().filter(|name| !name.is_empty()) else {
            let message = "args must name a program";
            return Err(Error::spec("$.process.args", None, "config.md#process", message));
        };
        self.push(
            Step::FindProgram {
                candidates: candidates(name, env)?,
                name: c_string(name, || "$.process.args[0]".to_owned())?,
            },
            "$.process.args[0]",
        );
        if filter.as_ref().is_some_and(Filter::notifies) {
            // While the parent is there, which hands the listener on; and if it cannot, the program
            // has not run.
            self.load(filter.take());
        }
        self.push(ready, "");
        let argv = Strings::new(strings(args, "$.process.args")?);
        let envp = Strings::new(environment(process)?);
        self.push(Step::ResetSignals, "");
        // As late as can be: what comes after it must be among the calls that it allows. But hooks
        // in the container run what its image brings along, which is to be confined like the rest.
        self.load(filter);
        if !self.hooks.start_container.is_empty() {
            self.push(Step::Hooks(HookPoint::StartContainer), "$.hooks.startContainer");
        }
        self.push(Step::Exec { argv, envp }, "$.process.args");
        Ok(())
    }
}

#[derive(Default)]
struct Bits {
    bounding: u64,
    sets: CapabilitySets,
    ambient: u64,
}

/// Where to look for a program: itself if it has a slash, else each folder of its own PATH.
fn candidates(name: &str, env: &[String]) -> Result<Vec<CString>> {
    let at = || "$.process.args[0]".to_owned();
    if name.contains('/') {
        return Ok(vec![c_string(name, at)?]);
    }
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|folder| {
            // An empty entry is the working directory (environ(7)).
            let folder = if folder.is_empty() { "." } else { folder };
            c_path(&Path::new(folder).join(name), at)
        })
        .collect()
}

/// An empty one counts as none, as with runc; the last one counts.
fn lacks_home(process: &Process) -> bool {
    let variables = process.env().iter().flatten();
    let home = variables.rev().find_map(|variable| variable.strip_prefix("HOME="));
    home.is_none_or(str::is_empty)
}

/// Of several variables of one name the last, as with runc: getenv(3) would find the first. Without
/// HOME where that is looked up.
fn environment(process: &Process) -> Result<Vec<CString>> {
    let variables = process.env().as_deref().unwrap_or_default();
    let mut later = HashSet::new();
    let mut kept: Vec<(usize, &String)> = variables
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, variable)| later.insert(variable.split('=').next()))
        .collect();
    if lacks_home(process) {
        kept.retain(|(_, variable)| !variable.starts_with("HOME="));
    }
    kept.into_iter()
        .rev()
        .map(|(index, variable)| c_string(variable, || format!("$.process.env[{index}]")))
        .collect()
}

fn strings(strings: &[String], at: &str) -> Result<Vec<CString>> {
    strings
        .iter()
        .enumerate()
        .map(|(index, string)| c_string(string, || format!("{at}[{index}]")))
        .collect()
}

fn dimension(value: u64, name: &str) -> Result<u16> {
    u16::try_from(value).map_err(|_| {
        let at = format!("$.process.consoleSize.{name}");
        let message = "a terminal has at most 65535 rows and columns";
        Error::spec(at, Some(value.to_string()), "config.md#process", message)
    })
}

fn bit(capability: oci_spec::runtime::Capability) -> u64 {
    let name = format!("CAP_{capability}");
    caps::Capability::from_str(&name).map_or(0, |capability| capability.bitmask())
}

fn rlimit_number(kind: PosixRlimitType) -> i32 {
    let number = match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    number as i32
}

/// The name of a limit by its number (getrlimit(2)).
pub(super) fn rlimit_name(resource: i32) -> &'static str {
    const NAMES: [&str; 16] = [
        "RLIMIT_CPU",
        "RLIMIT_FSIZE",
        "RLIMIT_DATA",
        "RLIMIT_STACK",
        "RLIMIT_CORE",
        "RLIMIT_RSS",
        "RLIMIT_NPROC",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_AS",
        "RLIMIT_LOCKS",
        "RLIMIT_SIGPENDING",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
    ];
    usize::try_from(resource).ok().and_then(|index| NAMES.get(index)).copied().unwrap_or("a limit")
}
