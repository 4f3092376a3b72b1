//! Runs hooks: the container's state on their standard input, a time limit, their words in the error.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Error, Kind, Result};
use crate::interrupt::{self, Interrupt};
use crate::plan::HookProgram;
use crate::sys::clone::Strings;
use crate::sys::{pidfd, spawn};

/// Runs programs one after the other; the first that fails ends it.
///
/// # Errors
/// Names the hook, and how it failed or that it took too long; what `interrupt` answers, after which
/// the hook is killed.
pub fn run(programs: &[HookProgram], state: &[u8], interrupt: Interrupt<'_>) -> Result<()> {
    programs.iter().try_for_each(|program| {
        run_program(program, state, interrupt).map_err(|error| {
            error.context(format_args!("hook {:?}", program.path)).asked_by(&program.asked_by)
        })
    })
}

/// Runs one program with `words` on its standard input; what it says on a failure is in the error.
///
/// # Errors
/// As [`run`], without a name for the program.
pub fn run_program(program: &HookProgram, words: &[u8], interrupt: Interrupt<'_>) -> Result<()> {
    // A file, not a pipe: a hook that does not read its input must not block us.
    let mut input = scratch()?;
    let written = input.write_all(words).and_then(|()| input.seek(SeekFrom::Start(0)));
    written.map_err(|error| Error::io("write", "the input of a program", &error))?;
    let mut output = scratch()?;
    let argv = Strings::new(program.args.clone());
    let envp = Strings::new(program.env.clone().unwrap_or_else(own_environment));
    let options = spawn::SpawnOptions {
        fds: vec![(input.as_fd(), 0), (output.as_fd(), 1), (output.as_fd(), 2)],
        new_session: false,
    };
    let path = program.path.to_string_lossy();
    let pid = spawn::spawn(&program.path, &argv, &envp, &options)
        .map_err(|errno| Error::path_call("posix_spawn", &*path, errno))?;
    let process = pidfd::open(pid).map_err(|errno| Error::call("pidfd_open", pid, errno))?;
    let waited = ended_within(&process, program.timeout, interrupt);
    let in_time = matches!(waited, Ok(true));
    if !in_time {
        // It may have ended just now, which is as good.
        let _ = pidfd::send_signal(&process, libc::SIGKILL);
    }
    let status = pidfd::reap(&process, true).map_err(|errno| Error::call("waitid", pid, errno))?;
    waited?;
    match status.map(pidfd::WaitStatus::returncode) {
        _ if !in_time => {
            let limit = program.timeout.unwrap_or_default().as_secs();
            let message = format!("took longer than its timeout of {limit} s");
            Err(Error::new(Kind::Other, message).hint("give it a longer one in the config"))
        }
        Some(0) => Ok(()),
        Some(code) => Err(Error::new(Kind::Other, failure(code, &mut output))),
        None => Err(Error::new(Kind::Other, "ended without a status")),
    }
}

fn own_environment() -> Vec<CString> {
    let variable = |(name, value): (OsString, OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    std::env::vars_os().filter_map(variable).collect()
}

fn scratch() -> Result<File> {
    memfd_create(c"hook", MFdFlags::MFD_CLOEXEC)
        .map(File::from)
        .map_err(|errno| Error::call("memfd_create", "for a hook", errno))
}

fn ended_within(
    process: &OwnedFd,
    limit: Option<Duration>,
    interrupt: Interrupt<'_>,
) -> Result<bool> {
    let until = limit.map(|limit| Instant::now() + limit);
    interrupt::readable(process, until, interrupt)
}

fn failure(code: i32, output: &mut File) -> String {
    const SHOWN: u64 = 1024;
    let how = if code < 0 {
        format!("killed by signal {}", -code)
    } else {
        format!("exit status {code}")
    };
    let mut words = Vec::new();
    let said =
        output.seek(SeekFrom::Start(0)).and_then(|_| output.take(SHOWN).read_to_end(&mut words));
    match said {
        Ok(said) if said > 0 => format!("{how}: {}", String::from_utf8_lossy(&words).trim()),
        _ => how,
    }
}
