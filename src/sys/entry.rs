//! A program's start without std's own.
//!
//! std reads /proc/self/maps and makes a stack for the signal of a stack overflow before it calls
//! `main`: a tenth of a millisecond, an eighth of what `rscontainer state` takes. What else it does
//! there is done here.

use std::ffi::{c_char, c_int};
use std::io::Write;
use std::panic::{UnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;

use super::fds;

/// What std ends a program with that panicked.
const PANICKED: u8 = 101;

/// What glibc's `_dl_get_origin` gives where there is no /proc.
pub const UNKNOWN_ORIGIN: *const c_char = std::ptr::without_provenance(usize::MAX);

/// Makes an expression, the program's exit status as a `u8`, the program's `main`. Its crate has
/// `#![cfg_attr(target_env = "gnu", no_main)]`, for glibc alone gives std the arguments before `main`.
#[macro_export]
macro_rules! entry {
    ($main:expr) => {
        // The only symbol of the name: with `no_main` the compiler makes none.
        #[cfg(target_env = "gnu")]
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> std::ffi::c_int {
            $crate::sys::entry::run(|| $main)
        }

        // In the place of glibc's own, which a static program calls before `main` to find libraries
        // beside itself. It loads none, and the link in /proc that this reads costs a tenth of what
        // `rscontainer state` takes: the kernel makes the process's folder there for it, and takes
        // it away at the end.
        #[cfg(target_env = "gnu")]
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn _dl_get_origin() -> *const std::ffi::c_char {
            $crate::sys::entry::UNKNOWN_ORIGIN
        }

        #[cfg(not(target_env = "gnu"))]
        fn main() {
            std::process::exit($crate::sys::entry::run(|| $main))
        }
    };
}

/// Runs a program, and returns its exit status.
pub fn run(program: impl FnOnce() -> u8 + UnwindSafe) -> c_int {
    if open_stdio().is_err() {
        // What the program opened would take those numbers, and be read and written as they are.
        std::process::abort();
    }
    ignore_broken_pipes();
    let status = catch_unwind(program).unwrap_or(PANICKED);
    // Where nobody reads it any more there is no more to say.
    let _ = std::io::stdout().flush();
    status.into()
}

/// Opens what is closed of standard input, output and error.
fn open_stdio() -> nix::Result<()> {
    for number in 0..=2 {
        if fcntl(fds::stdio(number), FcntlArg::F_GETFD) == Err(Errno::EBADF) {
            // It gets the lowest number that is free, which is this one, and is not for dropping.
            std::mem::forget(open("/dev/null", OFlag::O_RDWR, Mode::empty())?);
        }
    }
    Ok(())
}

/// A write that nobody reads is an error like others then, and ends no program on its way.
fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN runs no code of ours.
    let ignored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    debug_assert!(ignored.is_ok(), "SIGPIPE may be ignored");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_status_is_its_own() {
        assert_eq!(run(|| 3), 3);
    }

    #[test]
    fn a_panic_ends_the_program_and_not_the_stack() {
        assert_eq!(run(|| panic!("as a program might")), c_int::from(PANICKED));
    }
}
