//! When and where the process runs: `process.scheduler`, `ioPriority`, `execCPUAffinity`, and
//! `linux.memoryPolicy` and `personality`, which hold for every process of the container.

use std::fmt::{self, Formatter};

use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonalityDomain, LinuxSchedulerFlag as Flag,
    LinuxSchedulerPolicy as Policy, MemoryPolicyFlagType as PolicyFlag,
    MemoryPolicyModeType as Mode, Process, Spec,
};

use super::Compiler;
use super::step::Step;
use crate::error::{Error, Result};
use crate::spec::{MOST_NODES, MOST_PROCESSORS, parse_list};
use crate::sys::sched::{LINUX32, Scheduler};

impl Compiler<'_> {
    /// After the cgroup is joined, whose cpuset bounds processors and nodes; while the process has
    /// the privileges that real-time classes need.
    pub(super) fn scheduling(&mut self, process: &Process) {
        if let Some(wanted) = process.scheduler() {
            let flags = wanted.flags().iter().flatten();
            let scheduler = Scheduler {
                policy: policy_number(*wanted.policy()),
                flags: flags.fold(0, |bits, flag| bits | scheduler_flag(*flag)),
                nice: wanted.nice().unwrap_or(0),
                // Validated to be none below zero.
                priority: wanted.priority().unwrap_or(0).unsigned_abs(),
                runtime: wanted.runtime().unwrap_or(0),
                deadline: wanted.deadline().unwrap_or(0),
                period: wanted.period().unwrap_or(0),
            };
            self.push(Step::Scheduler(scheduler), "$.process.scheduler");
        }
        if let Some(wanted) = process.io_priority() {
            let class = match wanted.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            // Validated to be from 0 to 7.
            let step = Step::IoPriority { class, level: wanted.priority() as u16 };
            self.push(step, "$.process.ioPriority");
        }
    }

    /// What an exec must set anew, for it is no child of the container's init.
    pub(super) fn execution_domain(&mut self, spec: &Spec) -> Result<()> {
        let Some(linux) = spec.linux() else { return Ok(()) };
        if let Some(policy) = linux.memory_policy() {
            let at = "$.linux.memoryPolicy";
            let flags = policy.flags().iter().flatten();
            let flags = flags.fold(0, |bits, flag| bits | policy_flag(*flag));
            let nodes = policy.nodes().as_deref().unwrap_or_default();
            let nodes = list(nodes, MOST_NODES, "$.linux.memoryPolicy.nodes")?;
            self.push(Step::MemoryPolicy { mode: mode_number(policy.mode()), flags, nodes }, at);
        }
        if let Some(personality) = linux.personality() {
            let domain = match personality.domain() {
                LinuxPersonalityDomain::PerLinux => 0,
                LinuxPersonalityDomain::PerLinux32 => LINUX32,
            };
            self.push(Step::Personality(domain), "$.linux.personality");
        }
        Ok(())
    }

    /// In its cgroup the process runs wherever that allows, and not only where the runtime was
    /// told to run.
    pub(super) fn all_processors(&mut self) {
        self.push(Step::Affinity(None), "");
    }

    /// The processors of an exec in its cgroup. Gives those that it has until then: the clone's
    /// parent runs there, and the child is born there, for the child's own first step could be too
    /// late: it may be born in the cgroup.
    pub(super) fn exec_affinity(&mut self, process: &Process) -> Result<Option<Vec<u64>>> {
        let affinity = process.exec_cpu_affinity().as_ref();
        let initial = affinity.and_then(|affinity| affinity.initial().as_deref());
        let last = affinity.and_then(|affinity| affinity.cpu_affinity_final().as_deref());
        match last.filter(|list| !list.is_empty()) {
            Some(last) => {
                let at = "$.process.execCPUAffinity.final";
                let processors = list(last, MOST_PROCESSORS, at)?;
                self.push(Step::Affinity(Some(processors)), at);
            }
            // With a first one alone, what comes of it in the cgroup is the kernel's to decide.
            None if initial.is_none_or(str::is_empty) => self.all_processors(),
            None => {}
        }
        let initial = initial.filter(|list| !list.is_empty());
        initial
            .map(|initial| list(initial, MOST_PROCESSORS, "$.process.execCPUAffinity.initial"))
            .transpose()
    }
}

fn list(text: &str, most: u32, at: &str) -> Result<Vec<u64>> {
    parse_list(text, most).map_err(|what| {
        Error::spec(at, Some(format!("{text:?}")), "config.md", format!("must {what}"))
    })
}

/// The numbers of sched(7).
fn policy_number(policy: Policy) -> u32 {
    let position = POLICIES.iter().position(|(known, _)| *known == policy);
    position.unwrap_or_default() as u32
}

/// In the order of their numbers.
const POLICIES: [(Policy, &str); 7] = [
    (Policy::SchedOther, "SCHED_OTHER"),
    (Policy::SchedFifo, "SCHED_FIFO"),
    (Policy::SchedRr, "SCHED_RR"),
    (Policy::SchedBatch, "SCHED_BATCH"),
    (Policy::SchedIso, "SCHED_ISO"),
    (Policy::SchedIdle, "SCHED_IDLE"),
    (Policy::SchedDeadline, "SCHED_DEADLINE"),
];

/// In the order of their bits.
const FLAGS: [&str; 7] = [
    "RESET_ON_FORK",
    "RECLAIM",
    "DL_OVERRUN",
    "KEEP_POLICY",
    "KEEP_PARAMS",
    "UTIL_CLAMP_MIN",
    "UTIL_CLAMP_MAX",
];

fn scheduler_flag(flag: Flag) -> u64 {
    1 << match flag {
        Flag::SchedResetOnFork => 0,
        Flag::SchedFlagReclaim => 1,
        Flag::SchedFlagDLOverrun => 2,
        Flag::SchedFlagKeepPolicy => 3,
        Flag::SchedFlagKeepParams => 4,
        Flag::SchedFlagUtilClampMin => 5,
        Flag::SchedFlagUtilClampMax => 6,
    }
}

/// The modes of set_mempolicy(2), in the order of their numbers.
const MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

fn mode_number(mode: Mode) -> i32 {
    match mode {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    }
}

/// The kernel's bits, which share a word with the mode.
const POLICY_FLAGS: [(i32, &str); 3] =
    [(1 << 13, "NUMA_BALANCING"), (1 << 14, "RELATIVE_NODES"), (1 << 15, "STATIC_NODES")];

fn policy_flag(flag: PolicyFlag) -> i32 {
    let index = match flag {
        PolicyFlag::MpolFNumaBalancing => 0,
        PolicyFlag::MpolFRelativeNodes => 1,
        PolicyFlag::MpolFStaticNodes => 2,
    };
    POLICY_FLAGS[index].0
}

/// The steps of this file, in the words of the specification.
pub(super) fn fmt(step: &Step, f: &mut Formatter<'_>) -> fmt::Result {
    match step {
        Step::Scheduler(scheduler) => fmt_scheduler(scheduler, f),
        Step::IoPriority { class, level } => {
            let class = ["NONE", "RT", "BE", "IDLE"].get(usize::from(*class)).unwrap_or(&"?");
            write!(f, "set i/o priority IOPRIO_CLASS_{class} {level}")
        }
        Step::Affinity(None) => f.write_str("run on all processors of the cgroup"),
        Step::Affinity(Some(processors)) => {
            write!(f, "run on processors {}", shown_list(processors))
        }
        Step::MemoryPolicy { mode, flags, nodes } => {
            let name = usize::try_from(*mode).ok().and_then(|mode| MODES.get(mode));
            write!(f, "set memory policy {}", name.unwrap_or(&"?"))?;
            if !nodes.is_empty() {
                write!(f, ", nodes {}", shown_list(nodes))?;
            }
            let set = POLICY_FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
            set.into_iter().try_for_each(|(_, name)| write!(f, ", MPOL_F_{name}"))
        }
        Step::Personality(0) => f.write_str("set personality LINUX"),
        Step::Personality(LINUX32) => f.write_str("set personality LINUX32"),
        _ => f.write_str("unnamed step"),
    }
}

fn fmt_scheduler(scheduler: &Scheduler, f: &mut Formatter<'_>) -> fmt::Result {
    let Scheduler { policy, flags, nice, priority, runtime, deadline, period } = *scheduler;
    let name = usize::try_from(policy).ok().and_then(|policy| POLICIES.get(policy));
    write!(f, "schedule by {}", name.map_or("?", |(_, name)| name))?;
    let numbers = [
        ("priority", u64::from(priority)),
        ("runtime", runtime),
        ("deadline", deadline),
        ("period", period),
    ];
    if nice != 0 {
        write!(f, ", nice {nice}")?;
    }
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
        write!(f, ", {name} {number}")?;
    }
    let set = FLAGS.iter().enumerate().filter(|(bit, _)| flags & 1 << bit != 0);
    set.into_iter().try_for_each(|(_, flag)| write!(f, ", SCHED_FLAG_{flag}"))
}

/// Bits as taskset(1) writes them.
pub(super) fn shown_mask(words: &[u64]) -> String {
    let mut highest_first = words.iter().rev().skip_while(|word| **word == 0);
    let first = highest_first.next().copied().unwrap_or_default();
    highest_first.fold(format!("{first:#x}"), |shown, word| format!("{shown}{word:016x}"))
}

/// Bits as the list that names them.
pub(crate) fn shown_list(words: &[u64]) -> String {
    let has = |number: usize| words.get(number / 64).is_some_and(|w| w & 1 << (number % 64) != 0);
    let mut parts = Vec::new();
    let mut number = 0;
    while number < words.len() * 64 {
        let first = number;
        while has(number) {
            number += 1;
        }
        match number - first {
            0 => {}
            1 => parts.push(first.to_string()),
            _ => parts.push(format!("{first}-{}", number - 1)),
        }
        number += 1;
    }
    parts.join(",")
}
