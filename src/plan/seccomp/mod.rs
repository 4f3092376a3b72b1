//! `linux.seccomp`: the config's rules compiled to a program that the kernel runs at each call.
//!
//! Rules name calls; a program sees numbers, which differ by architecture.
//! So each architecture gets its own decisions, a map from numbers to
//! answers, which becomes a binary search over runs of equal answers.

mod abi;
mod assemble;
mod condition;
mod decisions;
mod numbers;
mod support;
mod table;

use std::fmt;
use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::seccomp::{Instruction, answer, flag};
use abi::Abi;
use assemble::Assembler;
use decisions::{Conflict, Decisions, Rule};
use numbers::Numbers;
pub use support::{ACTIONS, Support};

const PROPERTY: &str = "$.linux.seccomp";
const SECTION: &str = "config-linux.md#seccomp";
/// `BPF_MAXINSNS`
const LONGEST: usize = 4096;

/// A program to load, and how it prints itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// For the kernel.
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_…`
    pub flags: u32,
    /// The answer to what no rule is about.
    default: u32,
    rules: usize,
    architectures: Vec<String>,
}

/// Who answers calls that wait for an answer from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The socket of the agent, on the host.
    pub path: PathBuf,
    /// What it is told besides.
    pub metadata: Option<String>,
}

/// A filter, who has to hear from it, and what is odd about it.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) filter: Filter,
    pub(super) listener: Option<Listener>,
    pub(super) warnings: Vec<String>,
}

impl Filter {
    /// Whether calls may wait for an answer from outside.
    pub fn notifies(&self) -> bool {
        self.flags & flag::NEW_LISTENER != 0
    }
}

/// Compiles the rules for a host.
///
/// # Errors
/// What this kernel does not have, rules that contradict each other, or too many of them.
pub(super) fn compile(seccomp: &LinuxSeccomp, support: &Support) -> Result<Compiled> {
    support.check(seccomp)?;
    let mut warnings = Vec::new();
    let abis = architectures(seccomp, support, &mut warnings)?;
    let rules = decisions::rules(seccomp);
    let default = returned(seccomp.default_action(), seccomp.default_errno_ret());
    let mut decided: Vec<_> = abis.iter().map(|abi| (*abi, Decisions::of(&rules, *abi))).collect();
    if let Some((_, native)) = decided.first() {
        report(&rules, native, &mut warnings)?;
    }
    let mut questions = Vec::new();
    let mut architectures = Vec::new();
    while !decided.is_empty() {
        let (abi, decisions) = decided.remove(0);
        let numbers = Numbers::new(default, beyond(default), &mut questions);
        let runs = match abi.shares_token_with() {
            None => numbers.of(abi, decisions),
            Some(other) => {
                let place = decided.iter().position(|(abi, _)| abi.name == other);
                let other = place.map(|place| decided.remove(place));
                let this = Some((abi, decisions));
                let (low, high) = if abi.name == "x32" { (other, this) } else { (this, other) };
                numbers.shared(low, high)
            }
        };
        architectures.push((abi.token(), runs));
    }
    let little_endian = abis.first().is_some_and(|abi| abi.is_little_endian());
    let program = Assembler::new(little_endian, default).program(&architectures, &questions);
    if program.len() > LONGEST {
        let length = format!("{} instructions", program.len());
        let message = format!("compiles to more than the {LONGEST} that the kernel takes");
        return Err(Error::spec(PROPERTY, Some(length), SECTION, message)
            .hint("leave out architectures, or conditions on arguments"));
    }
    let listener = listener(seccomp);
    let flags = flags(seccomp, listener.is_some(), support, &mut warnings);
    let architectures = abis.iter().map(|abi| abi.name.to_owned()).collect();
    let filter = Filter { program, flags, default, rules: rules.len(), architectures };
    Ok(Compiled { filter, listener, warnings })
}

/// The host's own first, whether the config has it or not: without it the container could not
/// make a single call, and profiles are written with libseccomp in mind, which adds it.
fn architectures(
    seccomp: &LinuxSeccomp,
    support: &Support,
    warnings: &mut Vec<String>,
) -> Result<Vec<Abi>> {
    let Some(native) = support.native.and_then(Abi::of) else {
        let message = "there is no table of system calls for this host's architecture";
        return Err(Error::spec(PROPERTY, None, SECTION, message));
    };
    let mut abis = vec![native];
    for (index, arch) in seccomp.architectures().iter().flatten().enumerate() {
        let Some(abi) = Abi::of(*arch) else { continue };
        if abi.is_little_endian() != native.is_little_endian() {
            // A program would find the halves of arguments in other places.
            let at = format!("{PROPERTY}.architectures[{index}]");
            let name = native.name;
            warnings.push(format!("{at}: {arch} is left out: no {name} kernel runs its programs"));
        } else if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    Ok(abis)
}

/// Says which rules have no effect, and refuses those of which one must be a mistake.
fn report(rules: &[Rule<'_>], native: &Decisions<'_>, warnings: &mut Vec<String>) -> Result<()> {
    for rule in rules {
        let at = format_args!("{PROPERTY}.syscalls[{}]", rule.index);
        for name in &rule.unknown {
            warnings.push(format!("{at}.names: no system call is called {name:?}; it is left out"));
        }
        if rule.repeats_an_argument {
            warnings.push(format!(
                "{at}.args: with two on one argument, the rule holds where any of them does"
            ));
        }
    }
    for Conflict { rule, name, contradicts } in &native.conflicts {
        let at = format!("{PROPERTY}.syscalls[{rule}]");
        if *contradicts {
            let message =
                format!("another rule has another action for {name:?} on the same conditions");
            return Err(Error::spec(at, None, SECTION, message));
        }
        warnings.push(format!(
            "{at}: another rule has another action for {name:?}; the first without args decides"
        ));
    }
    Ok(())
}

/// What the kernel is told to do with a call, with the errno where there is one.
fn returned(action: Action, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(libc::EPERM as u32) & answer::DATA;
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => answer::KILL_THREAD,
        Action::ScmpActKillProcess => answer::KILL_PROCESS,
        Action::ScmpActTrap => answer::TRAP,
        Action::ScmpActErrno => answer::ERRNO | errno,
        Action::ScmpActNotify => answer::USER_NOTIF,
        Action::ScmpActTrace => answer::TRACE | errno,
        Action::ScmpActLog => answer::LOG,
        Action::ScmpActAllow => answer::ALLOW,
    }
}

/// The answer to a call that is newer than the profile. Where calls are let through, this one is
/// too; and a tracer knows better.
fn beyond(default: u32) -> u32 {
    match default & !answer::DATA {
        answer::ALLOW | answer::LOG | answer::TRACE => default,
        _ => answer::ERRNO | libc::ENOSYS as u32,
    }
}

fn listener(seccomp: &LinuxSeccomp) -> Option<Listener> {
    let mut rules = seccomp.syscalls().iter().flatten();
    // Without such a rule, the path is ignored (config-linux.md#seccomp).
    rules.find(|rule| rule.action() == Action::ScmpActNotify)?;
    let path = seccomp.listener_path().clone()?;
    let metadata = seccomp.listener_metadata().clone().filter(|metadata| !metadata.is_empty());
    Some(Listener { path, metadata })
}

fn flags(
    seccomp: &LinuxSeccomp,
    listens: bool,
    support: &Support,
    warnings: &mut Vec<String>,
) -> u32 {
    let mut flags = match seccomp.flags() {
        Some(flags) => flags.iter().fold(0, |bits, flag| bits | flag_bit(*flag)),
        // A filter would else turn a mitigation on that costs programs much; runc's default too.
        None => flag::SPEC_ALLOW & support.flags,
    };
    if listens {
        flags |= flag::NEW_LISTENER;
    } else if flags & flag::WAIT_KILLABLE_RECV != 0 {
        flags &= !flag::WAIT_KILLABLE_RECV;
        warnings.push(format!(
            "{PROPERTY}.flags: {} has no effect without SCMP_ACT_NOTIFY",
            Flag::SeccompFilterFlagWaitKillableRecv
        ));
    }
    flags
}

fn flag_bit(flag: Flag) -> u32 {
    match flag {
        Flag::SeccompFilterFlagLog => flag::LOG,
        Flag::SeccompFilterFlagSpecAllow => flag::SPEC_ALLOW,
        Flag::SeccompFilterFlagWaitKillableRecv => flag::WAIT_KILLABLE_RECV,
        // The process that loads the filter has one thread, so that none is left to synchronize.
        Flag::SeccompFilterFlagTsync => 0,
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FLAGS: [(u32, &str); 4] = [
            (flag::LOG, "log"),
            (flag::SPEC_ALLOW, "spec_allow"),
            (flag::NEW_LISTENER, "new_listener"),
            (flag::WAIT_KILLABLE_RECV, "wait_killable_recv"),
        ];
        let Filter { program, flags, default, rules, architectures } = self;
        write!(f, "load seccomp filter: ")?;
        match default & !answer::DATA {
            answer::KILL_PROCESS => f.write_str("kill the process")?,
            answer::KILL_THREAD => f.write_str("kill the thread")?,
            answer::TRAP => f.write_str("trap")?,
            answer::ERRNO => {
                let errno = (default & answer::DATA) as i32;
                write!(f, "fail with {:?}", nix::errno::Errno::from_raw(errno))?;
            }
            answer::TRACE => f.write_str("trace")?,
            answer::LOG => f.write_str("log")?,
            _ => f.write_str("allow")?,
        }
        let s = if *rules == 1 { "" } else { "s" };
        write!(f, " but for {rules} rule{s}; {}", architectures.join(", "))?;
        write!(f, "; {} instructions", program.len())?;
        let names = FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
        names.enumerate().try_for_each(|(index, (_, name))| {
            write!(f, "{}{name}", if index == 0 { "; " } else { "," })
        })
    }
}
