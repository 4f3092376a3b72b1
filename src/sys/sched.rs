//! When and where this thread runs: its scheduler, its processors, the nodes of its memory, and
//! the machine that it is shown.
//!
//! All of it is inherited by children and kept over execve(2).

use serde::{Deserialize, Serialize};

use super::check;

/// What sched_setattr(2) sets; times are nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_…`
    pub policy: u32,
    /// `SCHED_FLAG_…`
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// For `SCHED_DEADLINE`.
    pub runtime: u64,
    /// For `SCHED_DEADLINE`.
    pub deadline: u64,
    /// For `SCHED_DEADLINE`.
    pub period: u64,
}

/// `struct sched_attr` as of Linux 5.3, the first that knows the clamp flags.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// sched_setattr(2).
pub fn set_scheduler(wanted: &Scheduler) -> nix::Result<()> {
    let Scheduler { policy, flags, nice, priority, runtime, deadline, period } = *wanted;
    let size = std::mem::size_of::<SchedAttr>() as u32;
    let (util_min, util_max) = (0, 0);
    let attr = SchedAttr {
        size,
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        util_min,
        util_max,
    };
    // SAFETY: attr has the layout of struct sched_attr, says its size, and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// ioprio_set(2): class and level within it.
pub fn set_io_priority(class: u16, level: u16) -> nix::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_SHIFT: u16 = 13;
    let priority = libc::c_int::from(class << IOPRIO_CLASS_SHIFT | level);
    // SAFETY: takes integers alone.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) }).map(drop)
}

/// sched_setaffinity(2): the processors as bits, the first in the lowest bit of the first word.
pub fn set_affinity(processors: &[u64]) -> nix::Result<()> {
    let size = std::mem::size_of_val(processors);
    // SAFETY: processors is valid for the size that is passed and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, processors.as_ptr()) })
        .map(drop)
}

/// set_mempolicy(2): the mode with its flags, and the nodes as bits.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> nix::Result<()> {
    // The kernel takes one off before it counts the bits.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let nodes = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: nodes is valid for that many bits and outlives the call, or NULL with none.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes, bits) }).map(drop)
}

/// `PER_LINUX32`: uname(2) tells of a 32-bit machine.
pub const LINUX32: u32 = 8;

/// personality(2).
pub fn set_personality(domain: u32) -> nix::Result<()> {
    // SAFETY: takes an integer alone.
    check(unsafe { libc::personality(domain.into()) }.into()).map(drop)
}
