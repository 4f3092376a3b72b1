//! Writing limits: in the order that the kernel's checks want, and back.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::files::write;
use super::group::Directory;
use super::plan::{Absent, Write};
use crate::error::{Error, Kind, Result};

/// Writes in order. What the kernel checks against a file that a later write changes is tried again
/// after those, for as long as that gets any further: raising two limits that depend on each other
/// and lowering them want opposite orders.
pub(super) fn set(writes: &[Write], directory: &Directory) -> Result<()> {
    let mut left: Vec<&Write> = writes.iter().collect();
    loop {
        let refused = round(&left, directory)?;
        match refused.first() {
            None => return Ok(()),
            Some((planned, errno)) if refused.len() == left.len() => {
                return Err(not_set(directory, &planned.file, &planned.value, planned, *errno));
            }
            Some(_) => left = refused.into_iter().map(|(planned, _)| planned).collect(),
        }
    }
}

/// Writes once, each file opened once for a run of writes to it; what is to be tried again.
fn round<'a>(writes: &[&'a Write], directory: &Directory) -> Result<Vec<(&'a Write, Errno)>> {
    let mut refused = Vec::new();
    let mut open: Option<(&str, File)> = None;
    for planned in writes {
        planned.check(directory)?;
        let file = match open.take() {
            Some((name, file)) if name == planned.file => Ok(file),
            _ => directory.open_file(&planned.file, OFlag::O_WRONLY),
        };
        let outcome = file.and_then(|file| {
            let outcome = write(&file, &planned.value);
            open = Some((&planned.file, file));
            outcome
        });
        match (outcome, &planned.absent) {
            (Ok(()), _) | (Err(Errno::ENOENT), Absent::Skipped) => {}
            (Err(Errno::ENOENT), Absent::Instead { file, value }) => directory
                .write_file(file, value)
                .map_err(|errno| not_set(directory, file, value, planned, errno))?,
            (Err(errno @ (Errno::EINVAL | Errno::EBUSY)), _) if planned.again => {
                refused.push((*planned, errno));
            }
            (Err(errno), _) => {
                return Err(not_set(directory, &planned.file, &planned.value, planned, errno));
            }
        }
    }
    Ok(refused)
}

impl Write {
    fn check(&self, directory: &Directory) -> Result<()> {
        let Some(usage) = self.not_below.and_then(|file| number(directory, file)) else {
            return Ok(());
        };
        if self.value.parse::<u64>().is_ok_and(|limit| limit <= usage) {
            let message = format!(
                "set {} to {:?}: {usage} bytes are in use, and checkBeforeUpdate is set",
                self.file, self.value
            );
            return Err(Error::new(Kind::Other, message)
                .asked_by(&self.property)
                .hint("give it more, or leave checkBeforeUpdate out"));
        }
        Ok(())
    }

    /// The write that has the file say what it says now; none where it cannot be read.
    pub(super) fn inverse(&self, directory: &Directory) -> Option<Write> {
        let (file, value) = match &self.absent {
            Absent::Instead { file, value } if directory.read_file(&self.file).is_err() => {
                (file, value)
            }
            _ => (&self.file, &self.value),
        };
        let text = directory.read_file(file).ok()?;
        Some(Write::new(file, former(file, value, &text), &self.property).again())
    }
}

/// What to write into a file that said `text` to undo the writing of `value`.
fn former(file: &str, value: &str, text: &str) -> String {
    if let Some((key, _)) = value.split_once(' ')
        && let Some(none) = unset(file)
    {
        let own = |line: &&str| line.split(' ').next() == Some(key);
        return text.lines().find(own).map_or(format!("{key} {none}"), str::to_owned);
    }
    let line = text.lines().next().unwrap_or_default();
    match file {
        // Its first line is a name and the value.
        "memory.oom_control" => line.rsplit(' ').next().unwrap_or_default().to_owned(),
        // To write nothing at all would not reach the kernel.
        _ if line.is_empty() => "\n".to_owned(),
        _ => line.to_owned(),
    }
}

/// What a file with a line for each device says of a device that it does not list.
fn unset(file: &str) -> Option<&'static str> {
    match file {
        "io.max" => Some("rbps=max wbps=max riops=max wiops=max"),
        "io.weight" | "io.bfq.weight" => Some("default"),
        "io.latency" => Some("target=max"),
        "rdma.max" => Some("hca_handle=max hca_object=max"),
        "net_prio.ifpriomap" => Some("0"),
        _ if file.starts_with("blkio.") => Some("0"),
        _ => None,
    }
}

fn number(directory: &Directory, file: &str) -> Option<u64> {
    directory.read_file(file).ok()?.trim().parse().ok()
}

fn not_set(directory: &Directory, file: &str, value: &str, planned: &Write, errno: Errno) -> Error {
    let error = Error::path_call("write", directory.path.join(file), errno)
        .context(format_args!("set {file} to {value:?}"))
        .asked_by(&planned.property);
    let read = |file: &str| directory.read_file(file).unwrap_or_default().trim().to_owned();
    match (errno, file) {
        (Errno::ENOENT, "memory.memsw.limit_in_bytes" | "memory.swap.max") => {
            error.hint("this kernel accounts no swap: boot it with swapaccount=1 or drop the limit")
        }
        (Errno::ENOENT, _) if !directory.is_handed_on(file) => {
            error.hint("the cgroup above it does not hand that controller on")
        }
        (Errno::ENOENT, _) => error.hint("this kernel does not have it: drop the limit"),
        (Errno::EBUSY, "memory.limit_in_bytes") => error.hint(format!(
            "{} bytes are in use, and {} have been at most: give it more than that",
            read("memory.usage_in_bytes"),
            read("memory.max_usage_in_bytes")
        )),
        (Errno::EACCES, "cpuset.cpus" | "cpuset.mems") => {
            let above = directory.path.with_file_name(file);
            let above = super::files::read(&above).unwrap_or_default();
            error.hint(format!("the cgroup above has {:?} alone", above.trim()))
        }
        (Errno::EBUSY, "cpuset.cpus" | "cpuset.mems") => {
            error.hint("a cgroup inside of it has more than that")
        }
        (Errno::EINVAL, "cpu.shares" | "cpu.weight") if read("cpu.idle") == "1" => {
            error.hint("an idle cgroup has none: set cpu.idle to 0 as well")
        }
        (Errno::EPERM, "devices.allow") => error.hint("the cgroup above may not use it either"),
        _ => error,
    }
}

impl Directory {
    /// Whether a file's controller is here; in version 2 what is above may keep it back.
    fn is_handed_on(&self, file: &str) -> bool {
        let controller = file.split('.').next();
        match self.read_file("cgroup.controllers") {
            Ok(handed_on) => handed_on.split_whitespace().any(|it| Some(it) == controller),
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::former;

    #[test]
    fn a_limit_is_undone_by_what_was_there() {
        let throttled = "8:0 rbps=max wbps=1048576 riops=max wiops=120\n";
        for (file, value, text, expected) in [
            ("memory.max", "1048576", "max\n", "max"),
            ("cpu.max", "5000 10000", "max 100000\n", "max 100000"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("io.max", "8:0 wbps=5", throttled, throttled.trim_end()),
            ("io.max", "8:16 wbps=5", throttled, "8:16 rbps=max wbps=max riops=max wiops=max"),
            ("io.weight", "200", "default 100\n8:0 50\n", "default 100"),
            ("io.weight", "8:0 200", "default 100\n8:0 50\n", "8:0 50"),
            ("io.weight", "8:16 200", "default 100\n8:0 50\n", "8:16 default"),
            ("io.latency", "8:0 target=9", "8:16 target=5\n", "8:0 target=max"),
            ("blkio.throttle.read_bps_device", "8:0 7", "", "8:0 0"),
            ("blkio.throttle.read_bps_device", "8:0 7", "8:0 9\n", "8:0 9"),
            ("rdma.max", "mlx5_0 hca_handle=2", "", "mlx5_0 hca_handle=max hca_object=max"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", "0"),
        ] {
            assert_eq!(former(file, value, text), expected, "{file} {value}");
        }
    }
}
