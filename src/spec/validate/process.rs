//! `process`: what is executed, as whom, with which limits.

use oci_spec::runtime::{
    Capabilities, LinuxCapabilities, LinuxSchedulerPolicy, Process, Scheduler, Spec, User,
};

use super::{MOST_PROCESSORS, Warnings, absolute, fault, list, missing, no_nul, no_nul_each};
use crate::Result;

pub(super) fn validate(spec: &Spec, warnings: &mut Warnings) -> Result<()> {
    // It is wanted not before start (config.md#process).
    spec.process().as_ref().map_or(Ok(()), |process| check(process, warnings))
}

/// The rules for any process, the container's own or one that joins it.
pub(super) fn check(process: &Process, warnings: &mut Warnings) -> Result<()> {
    program(process)?;
    environment(process)?;
    console(process)?;
    umask(process.user(), warnings);
    if let Some(capabilities) = process.capabilities() {
        compare_sets(capabilities)?;
    }
    rlimits(process)?;
    labels(process)?;
    priorities(process)
}

fn program(process: &Process) -> Result<()> {
    if process.cwd().as_os_str().is_empty() {
        return Err(missing("$.process.cwd"));
    }
    absolute("$.process.cwd", process.cwd())?;
    match process.args().as_deref() {
        None => return Err(missing("$.process.args")),
        Some([]) => {
            let none: [&str; 0] = [];
            return Err(fault("$.process.args", none, "must have at least one entry, the program"));
        }
        Some([program, ..]) if program.is_empty() => {
            return Err(fault("$.process.args[0]", program, "must name a program"));
        }
        Some(_) => {}
    }
    no_nul_each("$.process.args", process.args().as_deref())
}

fn environment(process: &Process) -> Result<()> {
    let variables = process.env().as_deref().unwrap_or_default();
    for (index, variable) in variables.iter().enumerate() {
        let path = format_args!("$.process.env[{index}]");
        no_nul(path, variable)?;
        match variable.find('=') {
            None => return Err(fault(path, variable, "must have the form NAME=value")),
            Some(0) => return Err(fault(path, variable, "must have a name before the =")),
            Some(_) => {}
        }
    }
    Ok(())
}

fn console(process: &Process) -> Result<()> {
    // Without a terminal the size must be ignored, whatever it says.
    let (Some(true), Some(size)) = (process.terminal(), process.console_size()) else {
        return Ok(());
    };
    for (name, cells) in [("height", size.height()), ("width", size.width())] {
        if cells > u64::from(u16::MAX) {
            let path = format_args!("$.process.consoleSize.{name}");
            return Err(fault(path, cells, format!("must not be larger than {}", u16::MAX)));
        }
    }
    Ok(())
}

fn umask(user: &User, warnings: &mut Warnings) {
    if let Some(umask) = user.umask().filter(|&umask| umask > 0o777) {
        let message = format!("only the permission bits of {umask:#o} count");
        warnings.add("$.process.user.umask", message);
    }
}

/// Whether the sets agree with one another. One that asks for more than this host grants is no error,
/// says the specification; two that no kernel grants together are one, in every runtime.
fn compare_sets(sets: &LinuxCapabilities) -> Result<()> {
    let rules = [
        ("effective", sets.effective(), sets.permitted(), "permitted"),
        ("inheritable", sets.inheritable(), sets.bounding(), "bounding"),
    ];
    for (name, asked, within, other) in rules {
        let none = Capabilities::new();
        let [asked, within] = [asked, within].map(|set| set.as_ref().unwrap_or(&none));
        let mut refused: Vec<String> =
            asked.difference(within).map(|capability| format!("CAP_{capability}")).collect();
        if !refused.is_empty() {
            refused.sort_unstable();
            let refused = refused.join(", ");
            let message = format!(
                "{refused} must be in {other} too, or capset(2) refuses all of the sets (EPERM: \
                 operation not permitted)"
            );
            return Err(fault(format_args!("$.process.capabilities.{name}"), asked, message));
        }
    }
    Ok(())
}

fn rlimits(process: &Process) -> Result<()> {
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (index, limit) in limits.iter().enumerate() {
        if limits[..index].iter().any(|earlier| earlier.typ() == limit.typ()) {
            let path = format_args!("$.process.rlimits[{index}].type");
            return Err(fault(path, limit.typ(), "must not be there twice"));
        }
        if limit.soft() > limit.hard() {
            let path = format_args!("$.process.rlimits[{index}].soft");
            let message = format!("must not be larger than the hard limit, {}", limit.hard());
            return Err(fault(path, limit.soft(), message));
        }
    }
    Ok(())
}

fn labels(process: &Process) -> Result<()> {
    if let Some(profile) = process.apparmor_profile() {
        no_nul("$.process.apparmorProfile", profile)?;
    }
    if let Some(label) = process.selinux_label() {
        no_nul("$.process.selinuxLabel", label)?;
    }
    Ok(())
}

fn priorities(process: &Process) -> Result<()> {
    if let Some(score) = process.oom_score_adj().filter(|score| !(-1000..=1000).contains(score)) {
        return Err(fault("$.process.oomScoreAdj", score, "must be between -1000 and 1000"));
    }
    if let Some(priority) = process.io_priority().map(|io| io.priority())
        && !(0..=7).contains(&priority)
    {
        let path = "$.process.ioPriority.priority";
        return Err(fault(path, priority, "must be between 0 (highest) and 7 (lowest)"));
    }
    if let Some(affinity) = process.exec_cpu_affinity() {
        let lists = [("initial", affinity.initial()), ("final", affinity.cpu_affinity_final())];
        for (name, processors) in lists {
            let path = format_args!("$.process.execCPUAffinity.{name}");
            list(path, processors.as_deref().unwrap_or_default(), MOST_PROCESSORS)?;
        }
    }
    process.scheduler().as_ref().map_or(Ok(()), scheduler)
}

fn scheduler(scheduler: &Scheduler) -> Result<()> {
    use LinuxSchedulerPolicy::{SchedDeadline, SchedFifo, SchedRr};
    let policy = *scheduler.policy();
    if let Some(nice) = scheduler.nice().filter(|nice| !(-20..=19).contains(nice)) {
        return Err(fault("$.process.scheduler.nice", nice, "must be between -20 and 19"));
    }
    if let Some(priority) = scheduler.priority().filter(|&priority| priority != 0) {
        let path = "$.process.scheduler.priority";
        if !matches!(policy, SchedFifo | SchedRr) {
            let message = "is only allowed with the policies SCHED_FIFO and SCHED_RR";
            return Err(fault(path, priority, message));
        }
        if !(1..=99).contains(&priority) {
            return Err(fault(path, priority, "must be between 1 and 99"));
        }
    }
    let times = [
        ("runtime", scheduler.runtime()),
        ("deadline", scheduler.deadline()),
        ("period", scheduler.period()),
    ];
    for (name, time) in times {
        if let (Some(time @ 1..), false) = (*time, policy == SchedDeadline) {
            let path = format_args!("$.process.scheduler.{name}");
            return Err(fault(path, time, "is only allowed with the policy SCHED_DEADLINE"));
        }
    }
    Ok(())
}
