//! A process on disk: its number and when it started, for numbers are reused.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::sys::pidfd::{self, WaitStatus};

/// A process, for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// In clock ticks after boot: field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)).
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: Pid) -> nix::Result<Self> {
        let (_, start_time) = stat(pid.as_raw())?;
        Ok(ProcessId { pid: pid.as_raw(), start_time })
    }

    /// Reads `<pid> <start time>`, as it is written.
    pub fn parse(text: &OsStr) -> Option<Self> {
        let (pid, start_time) = text.to_str()?.split_once(' ')?;
        Some(ProcessId { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
    }

    /// Whether it runs; one that ended and was not waited for yet does not.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_ok_and(|(state, start_time)| {
            start_time == self.start_time && !matches!(state, b'Z' | b'X')
        })
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.start_time)
    }
}

/// A descriptor of the process; ESRCH where another has taken its number.
pub fn pidfd_of(process: ProcessId) -> nix::Result<OwnedFd> {
    let pidfd = pidfd::open(Pid::from_raw(process.pid))?;
    // Checked after the descriptor is there: from now on the number cannot change hands unnoticed.
    match stat(process.pid) {
        Ok((_, start_time)) if start_time == process.start_time => Ok(pidfd),
        _ => Err(Errno::ESRCH),
    }
}

/// The wait status of a process that has ended and was not waited for yet. Nobody else can have its
/// number until then.
pub fn status_of_zombie(pid: i32) -> Option<WaitStatus> {
    let mut text = [0; LONGEST_STAT];
    let read = read_stat(pid, &mut text).ok()?;
    let line = &text[..read];
    let (state, _) = parse(line)?;
    // The last of the 52 fields; no name reaches that far.
    let code = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next()?;
    let code = std::str::from_utf8(code).ok()?.parse().ok()?;
    (state == b'Z').then_some(WaitStatus(code))
}

/// One line, whose 52 fields and the name are far shorter; the kernel hands it out in one piece.
const LONGEST_STAT: usize = 2048;

fn read_stat(pid: i32, text: &mut [u8]) -> nix::Result<usize> {
    let path = format!("/proc/{pid}/stat");
    let file = open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    nix::unistd::read(file, text)
}

/// State letter and start time.
fn stat(pid: i32) -> nix::Result<(u8, u64)> {
    let mut text = [0; LONGEST_STAT];
    let read = read_stat(pid, &mut text)?;
    parse(&text[..read]).ok_or(Errno::EINVAL)
}

fn parse(text: &[u8]) -> Option<(u8, u64)> {
    // The name in field 2 may hold anything, parentheses and spaces too; the last one closes it.
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = text.get(close + 2..)?.split(|byte| *byte == b' ');
    let state = *fields.next()?.first()?;
    // Field 3 is the state, so field 22 is the nineteenth after it.
    let start_time = std::str::from_utf8(fields.nth(18)?).ok()?.trim().parse().ok()?;
    Some((state, start_time))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_name_cannot_shift_the_fields() {
        let tail = "R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        let line = format!("7 (a) Z 1 (b) c) {tail}");
        assert_eq!(parse(line.as_bytes()), Some((b'R', 4242)));
    }
}
