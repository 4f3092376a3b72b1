//! Identity and privileges of this thread, set with bare system calls.
//!
//! glibc's setuid family signals every thread; in a child with one thread the
//! kernel's own calls do the same without it.

use nix::errno::Errno;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};
use serde::{Deserialize, Serialize};

use super::check;

/// The sets that capset(2) writes, as bits by capability number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// What permission checks look at.
    pub effective: u64,
    /// What the process may put into effect.
    pub permitted: u64,
    /// What survives an exec of a program that has file capabilities.
    pub inheritable: u64,
}

#[repr(C)]
#[derive(Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

impl CapHeader {
    /// `_LINUX_CAPABILITY_VERSION_3`, this thread; the kernel writes its own version back on a mismatch.
    const VERSION_3: Self = CapHeader { version: 0x2008_0522, pid: 0 };
}

/// capset(2).
pub fn set_capabilities(sets: &CapabilitySets) -> nix::Result<()> {
    let half = |shift: u32| CapData {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    let mut header = CapHeader::VERSION_3;
    // SAFETY: version 3 takes a header and two data structures, which outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// capget(2) of this thread.
pub fn capabilities() -> nix::Result<CapabilitySets> {
    let mut data = [CapData::default(), CapData::default()];
    let mut header = CapHeader::VERSION_3;
    // SAFETY: version 3 fills in two data structures, which outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let [low, high] = data;
    Ok(CapabilitySets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

fn prctl(option: i32, arguments: [libc::c_ulong; 4]) -> nix::Result<libc::c_long> {
    let [a, b, c, d] = arguments;
    // SAFETY: only called below, with options that take integers.
    check(unsafe { libc::prctl(option, a, b, c, d) }.into())
}

/// Takes a capability out of the bounding set, for good.
pub fn drop_bounding(capability: u32) -> nix::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, [capability.into(), 0, 0, 0]).map(drop)
}

/// Whether a capability is in the bounding set; EINVAL past the last that the kernel knows.
pub fn in_bounding(capability: u32) -> nix::Result<bool> {
    Ok(prctl(libc::PR_CAPBSET_READ, [capability.into(), 0, 0, 0])? == 1)
}

/// Adds a capability to the ambient set.
pub fn raise_ambient(capability: u32) -> nix::Result<()> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
    prctl(libc::PR_CAP_AMBIENT, [raise, capability.into(), 0, 0]).map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient() -> nix::Result<()> {
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    prctl(libc::PR_CAP_AMBIENT, [clear, 0, 0, 0]).map(drop)
}

/// Whether capabilities survive the change to another user.
pub fn set_keep_capabilities(keep: bool) -> nix::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, [keep.into(), 0, 0, 0]).map(drop)
}

/// No exec may gain privileges from here on.
pub fn set_no_new_privileges() -> nix::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]).map(drop)
}

/// Hides this process's memory and /proc entries from the processes it is about to join.
pub fn set_dumpable(dumpable: bool) -> nix::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, [dumpable.into(), 0, 0, 0]).map(drop)
}

/// Names this process as ps(1) shows it; 15 bytes count.
pub fn set_name(name: &std::ffi::CStr) -> nix::Result<()> {
    // SAFETY: PR_SET_NAME reads a NUL-terminated string, which outlives the call.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }.into()).map(drop)
}

/// setgroups(2), setresgid(2), setresuid(2) in this order: each needs what the next gives up.
pub fn set_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<(), (&'static str, Errno)> {
    if let Some(groups) = groups {
        // SAFETY: groups is valid for its length and outlives the call.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
            .map_err(|errno| ("setgroups", errno))?;
    }
    // SAFETY: takes integers alone.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
        .map_err(|errno| ("setresgid", errno))?;
    // SAFETY: takes integers alone.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
        .map_err(|errno| ("setresuid", errno))?;
    Ok(())
}

/// Resets every signal to its default action and blocks none, as a new program expects.
pub fn reset_signals() -> nix::Result<()> {
    // The kernel's struct sigaction, all zero: SIG_DFL, no flags, an empty mask.
    let default = [0_u64; 4];
    let none = std::ptr::null_mut::<u64>();
    for signal in 1..=64 {
        // By the bare call, for the C library refuses the signals that it uses itself, and
        // posix_spawn(3) leaves those ignored.
        // SAFETY: SIG_DFL runs no code of ours; numbers that may not be set answer EINVAL.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Has signals end the process, with the status that a shell gives for each. The kernel spares the
/// first process of a pid namespace what that has no handler for (pid_namespaces(7)).
///
/// # Errors
/// sigaction(2)'s.
pub fn end_on(signals: &[Signal]) -> nix::Result<()> {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: it may be called in a handler (signal-safety(7)), and nothing runs after it.
        unsafe { libc::_exit(128 + signal) }
    }
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in signals {
        // SAFETY: the handler calls nothing but _exit(2).
        unsafe { sigaction(*signal, &action) }?;
    }
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&signals.iter().copied().collect()), None)
}

/// prlimit(2) of this process: sets one limit.
pub fn set_limit(resource: i32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    let none = std::ptr::null_mut();
    // SAFETY: limit is valid and outlives the call; no old value is asked for.
    check(unsafe { libc::prlimit(0, resource as u32, &raw const limit, none) }.into()).map(drop)
}

/// prlimit(2) of this process: one limit, soft and hard; none past the last that the kernel knows.
pub fn limit(resource: i32) -> Option<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null();
    // SAFETY: limit is valid and outlives the call; no new value is set.
    let done = unsafe { libc::prlimit(0, resource as u32, none, &raw mut limit) };
    (done == 0).then_some((limit.rlim_cur, limit.rlim_max))
}

/// setdomainname(2).
pub fn set_domainname(name: &std::ffi::CStr) -> nix::Result<()> {
    // SAFETY: name is valid for the length that is passed.
    check(unsafe { libc::setdomainname(name.as_ptr(), name.count_bytes()) }.into()).map(drop)
}

/// Whether this process is in another user namespace than the one that the kernel booted with, where
/// alone every id is mapped, to itself.
pub fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    // A kernel without user namespaces has no such file.
    !map.is_empty() && map.split_whitespace().ne(["0", "0", "4294967295"])
}
