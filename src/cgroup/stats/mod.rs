//! What a container has used: figures of its cgroup, as the kernel counts them.
//!
//! Sizes are bytes, times nanoseconds; what this host does not count is absent. On a host with both
//! versions each figure comes from the one that has it.

mod parse;
mod v1;
mod v2;

use std::collections::BTreeMap;

use serde::Serialize;

use super::group::{Cgroup, Directory};
use super::hierarchies::Version;

/// No limit, in version 2's words.
pub const UNLIMITED: u64 = u64::MAX;

/// From here on a number is no limit: version 1 has the largest number of whole pages for that.
const NO_LIMIT_FROM: u64 = (i64::MAX as u64) & !0xf_ffff;

fn limit<S: serde::Serializer>(limit: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    Some(*limit).filter(|limit| *limit < NO_LIMIT_FROM).serialize(serializer)
}

/// Figures of one moment.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Version 1's files of the cpuset controller, by their names after the dot.
    #[serde(skip)]
    pub cpuset: BTreeMap<String, String>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Input and output.
    pub io: Option<Io>,
    /// Processes and threads.
    pub pids: Option<Pids>,
    /// Huge pages, by their size: `2MB`.
    pub hugetlb: Option<BTreeMap<String, HugePages>>,
    /// Time lost waiting.
    pub pressure: Pressures,
}

/// Processor time.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Cpu {
    /// All of it.
    pub total: Option<u64>,
    /// In programs.
    pub user: Option<u64>,
    /// In the kernel.
    pub system: Option<u64>,
    /// All of it by processor, and of that the programs' and the kernel's (version 1).
    pub per_cpu: Option<Vec<u64>>,
    /// In programs by processor.
    #[serde(skip)]
    pub per_cpu_user: Vec<u64>,
    /// In the kernel by processor.
    #[serde(skip)]
    pub per_cpu_system: Vec<u64>,
    /// What the quota did.
    pub throttling: Option<Throttling>,
}

/// What a quota did.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Throttling {
    /// Periods with something to run.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// How long processes waited for the next.
    pub throttled_time: u64,
}

/// A limit, and what became of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Now.
    pub usage: u64,
    /// As the kernel has it; none where there is none when it is serialized.
    #[serde(serialize_with = "limit")]
    pub limit: u64,
    /// The most that there was.
    pub max_usage: Option<u64>,
    /// How often the limit was hit.
    pub failcnt: Option<u64>,
}

/// Memory.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All of it.
    #[serde(flatten)]
    pub all: Usage,
    /// Swap alone.
    pub swap: Option<Usage>,
    /// Memory and swap together, as version 1 counts.
    #[serde(skip)]
    pub with_swap: Option<Usage>,
    /// The kernel's, for the container.
    pub kernel: Option<u64>,
    /// The same as version 1 has it, and its part for TCP.
    #[serde(skip)]
    pub kernel_usage: [Option<Usage>; 2],
    /// How often memory ran out.
    pub ooms: Option<u64>,
    /// Processes killed for that.
    pub oom_kills: Option<u64>,
    /// `memory.stat` as it is, of the whole tree.
    pub stat: BTreeMap<String, u64>,
}

/// Input and output, a figure a device and kind of operation.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Io {
    /// Bytes.
    pub bytes: Vec<IoEntry>,
    /// Operations.
    pub operations: Vec<IoEntry>,
}

/// A figure of a device.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct IoEntry {
    /// The device's numbers.
    pub major: u64,
    /// The device's numbers.
    pub minor: u64,
    /// `Read`, `Write`, `Discard`; version 1 has sums too: `Sync`, `Async`, `Total`.
    pub op: String,
    /// The figure.
    pub value: u64,
}

/// Processes and threads.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// As the kernel has it; none where there is none when it is serialized.
    #[serde(serialize_with = "limit")]
    pub limit: u64,
}

/// Huge pages of a size.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// Those in use.
    #[serde(flatten)]
    pub used: Usage,
    /// Those set aside, which count from the mapping on.
    pub reserved: Option<Usage>,
}

/// Time lost waiting, by what was waited for.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Pressures {
    /// A processor.
    pub cpu: Option<Pressure>,
    /// Memory.
    pub memory: Option<Pressure>,
    /// Input and output.
    pub io: Option<Pressure>,
}

/// Time lost waiting for something.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Pressure {
    /// By any process.
    pub some: Share,
    /// By all at the same time.
    pub full: Share,
}

/// A share of the time.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Share {
    /// Of the last 10 seconds, in percent.
    pub avg10: f64,
    /// Of the last 60 seconds, in percent.
    pub avg60: f64,
    /// Of the last 300 seconds, in percent.
    pub avg300: f64,
    /// All of it, in nanoseconds.
    pub total: u64,
}

impl Cgroup {
    /// Reads the figures; those of a cgroup that is gone are absent.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for directory in &self.directories {
            match directory.version {
                Version::One => v1::read(directory, &mut stats),
                // It comes last: what version 1 counts stays.
                Version::Two => v2::read(directory, &mut stats),
            }
        }
        stats
    }

    /// Processes of it that were killed because memory ran out.
    pub fn oom_kills(&self) -> Option<u64> {
        let directory = self.directory("memory")?;
        match directory.version {
            Version::One => v1::oom_kills(directory),
            Version::Two => v2::oom_kills(directory),
        }
    }
}

impl Cgroup {
    /// How often memory ran out in it; version 1 tells, and does not count.
    pub(super) fn ooms(&self) -> Option<u64> {
        self.directory("memory").filter(|it| it.version == Version::Two).and_then(v2::ooms)
    }
}

impl Directory {
    fn text(&self, file: &str) -> Option<String> {
        self.read_file(file).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        parse::number(&self.text(file)?)
    }

    /// Sizes of huge pages that have a file with this end.
    fn page_sizes(&self, end: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let size = |name: String| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(end)?;
            (!size.contains('.')).then(|| size.to_owned())
        };
        names.filter_map(size).collect()
    }
}

#[cfg(test)]
mod tests;
