//! seccomp(2): a program that decides over a thread's system calls.

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::check;

/// `SECCOMP_RET_…`, the answers of a program; the lower half of some is data.
pub mod answer {
    #![allow(missing_docs, reason = "named as in seccomp(2)")]
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    pub const DATA: u32 = 0xffff;
}

/// `SECCOMP_FILTER_FLAG_…`
pub mod flag {
    #![allow(missing_docs, reason = "named as in seccomp(2)")]
    pub const LOG: u32 = 1 << 1;
    pub const SPEC_ALLOW: u32 = 1 << 2;
    pub const NEW_LISTENER: u32 = 1 << 3;
    pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;
}

const SET_MODE_FILTER: libc::c_uint = 1;
const GET_ACTION_AVAIL: libc::c_uint = 2;

/// An instruction of the virtual machine that filters run on (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to pass over if the test holds.
    pub then: u8,
    /// How many if it does not.
    pub otherwise: u8,
    /// The operand.
    pub operand: u32,
}

/// A test that a jump depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// The accumulator is the operand.
    Equal = 0x15,
    /// It is larger.
    Greater = 0x25,
    /// It is as large or larger.
    AtLeast = 0x35,
}

impl Instruction {
    /// `BPF_LD | BPF_W | BPF_ABS`
    pub const LOAD: u16 = 0x20;
    /// `BPF_ALU | BPF_AND | BPF_K`
    pub const AND: u16 = 0x54;
    /// `BPF_JMP | BPF_JA`
    pub const JUMP: u16 = 0x05;
    /// `BPF_RET | BPF_K`
    pub const RETURN: u16 = 0x06;

    const fn plain(code: u16, operand: u32) -> Self {
        Instruction { code, then: 0, otherwise: 0, operand }
    }

    /// Loads the word at that place of `struct seccomp_data` into the accumulator.
    pub const fn load(offset: u32) -> Self {
        Self::plain(Self::LOAD, offset)
    }

    /// `accumulator &= mask`
    pub const fn and(mask: u32) -> Self {
        Self::plain(Self::AND, mask)
    }

    /// Passes over that many instructions.
    pub const fn jump(over: u32) -> Self {
        Self::plain(Self::JUMP, over)
    }

    /// The program's answer.
    pub const fn answer(action: u32) -> Self {
        Self::plain(Self::RETURN, action)
    }

    /// Passes over as many instructions as the outcome of a test says.
    pub const fn branch(test: Test, operand: u32, then: u8, otherwise: u8) -> Self {
        Instruction { code: test as u16, then, otherwise, operand }
    }
}

/// `struct sock_fprog`
#[repr(C)]
struct Program {
    count: libc::c_ushort,
    instructions: *const Instruction,
}

/// Puts this thread under the program; with [`flag::NEW_LISTENER`], the descriptor on which its
/// notifications are heard comes back, closed on exec.
pub fn load(flags: u32, program: &[Instruction]) -> nix::Result<Option<OwnedFd>> {
    let count = program.len().try_into().map_err(|_| Errno::EINVAL)?;
    let program = Program { count, instructions: program.as_ptr() };
    // SAFETY: the kernel reads as many instructions as count says, which outlive the call.
    let value = check(unsafe {
        libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program)
    })?;
    if flags & flag::NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with this flag the call returns a new descriptor, which nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(value as i32) }))
}

/// Whether this kernel knows an answer.
pub fn has_action(action: u32) -> bool {
    // SAFETY: the kernel reads one word, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) };
    done == 0
}

/// Whether this kernel knows flags; nothing is loaded.
pub fn has_flags(flags: u32) -> bool {
    let none = std::ptr::null::<Program>();
    // SAFETY: no program is passed, so that the kernel, which looks at the flags first (EINVAL), then
    // fails with EFAULT and changes nothing.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, none) };
    done < 0 && Errno::last() == Errno::EFAULT
}
