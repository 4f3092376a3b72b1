//! System calls that no safe crate offers, each a thin function over one call, and a program's start.
//!
//! The only folder with `unsafe` in it. It knows nothing of containers: it
//! returns the bare errno, and the caller, who knows what was attempted,
//! renders it.
#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod entry;
pub mod fds;
pub mod file;
pub mod keyring;
pub mod memfd;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod overlay;
pub mod path;
pub mod pidfd;
pub mod privilege;
pub mod pty;
pub mod sched;
pub mod seccomp;
pub mod socket;
pub mod spawn;
pub mod winch;
pub mod xattr;

use nix::errno::Errno;

/// Turns the return value of a raw system call into a result.
fn check(value: libc::c_long) -> nix::Result<libc::c_long> {
    if value < 0 { Err(Errno::last()) } else { Ok(value) }
}
