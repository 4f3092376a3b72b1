//! bpf(2): a program that decides over a cgroup's devices.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// An instruction of the virtual machine.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    /// The destination in the lower half, the source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// All jumps and sums are of 32 bits, in which immediates are not sign-extended.
impl Instruction {
    const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        Instruction { code, registers: from << 4 | to, offset, immediate }
    }

    /// `to = *(u32 *)(from + offset)`
    pub const fn load_word(to: u8, from: u8, offset: i16) -> Self {
        Self::new(0x61, to, from, offset, 0)
    }

    /// `to = from`
    pub const fn copy(to: u8, from: u8) -> Self {
        Self::new(0xbc, to, from, 0, 0)
    }

    /// `register &= value`
    pub const fn and(register: u8, value: i32) -> Self {
        Self::new(0x54, register, 0, 0, value)
    }

    /// `register >>= bits`
    pub const fn shift_right(register: u8, bits: i32) -> Self {
        Self::new(0x74, register, 0, 0, bits)
    }

    /// Passes over that many instructions unless `register == value`.
    pub const fn jump_unless_equal(register: u8, value: i32, over: i16) -> Self {
        Self::new(0x56, register, 0, over, value)
    }

    /// Passes over that many instructions if `register == value`.
    pub const fn jump_if_equal(register: u8, value: i32, over: i16) -> Self {
        Self::new(0x16, register, 0, over, value)
    }

    /// `return value`
    pub const fn answer(value: i32) -> [Self; 2] {
        [Self::new(0xb4, 0, 0, 0, value), Self::new(0x95, 0, 0, 0, 0)]
    }
}

/// The parts of `union bpf_attr`; the kernel takes what is behind the given size as zero.
#[repr(C)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// # Safety
///
/// Addresses inside `attributes` must be valid for what the command reads and writes there.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> nix::Result<libc::c_long> {
    // SAFETY: the attributes are a prefix of union bpf_attr, of the size that is passed; the
    // caller answers for addresses inside them.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    })
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
pub fn load_device_program(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attributes = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"rscontainer_dev\0",
    };
    // SAFETY: instructions and license are borrowed until after the call, which only reads them.
    let fd = unsafe { bpf(PROG_LOAD, &mut attributes) }?;
    // SAFETY: the call succeeded and returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a device program to a cgroup, beside those of others or in one's stead, atomically.
pub fn attach_device_program(
    cgroup: impl AsFd,
    program: impl AsFd,
    replaced: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        attach_type: CGROUP_DEVICE,
        flags: ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 },
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: there are no addresses in it.
    unsafe { bpf(PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Detaches a device program from a cgroup.
pub fn detach_device_program(cgroup: impl AsFd, program: impl AsFd) -> nix::Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        attach_type: CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    // SAFETY: there are no addresses in it.
    unsafe { bpf(PROG_DETACH, &mut attributes) }.map(drop)
}

/// The device programs attached to a cgroup itself; `ENOSPC` if there are more than 64.
pub fn device_programs(cgroup: impl AsFd) -> nix::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attributes = Query {
        target: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
    };
    // SAFETY: the kernel writes at most count numbers to ids, which is that long and outlives
    // the call.
    unsafe { bpf(PROG_QUERY, &mut attributes) }?;
    ids.iter().take(attributes.count as usize).map(|id| program_by_id(*id)).collect()
}

fn program_by_id(id: u32) -> nix::Result<OwnedFd> {
    let mut attributes = ById { id, next: 0, flags: 0 };
    // SAFETY: there are no addresses in it.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attributes) }?;
    // SAFETY: the call succeeded and returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
