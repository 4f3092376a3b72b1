//! Version 2's files.

use super::super::group::Directory;
use super::parse::{io_fields, pair, pairs, pressure};
use super::{Cpu, HugePages, Io, Memory, Pids, Stats, Throttling, UNLIMITED, Usage};

const MICROSECOND: u64 = 1000;

/// What version 1 said stays: beside it, this hierarchy has few controllers, or none.
pub(super) fn read(directory: &Directory, stats: &mut Stats) {
    let text = directory.text("cpu.stat");
    // It is there without the controller too, which then throttles nothing.
    if let Some(read) = text.as_deref().and_then(cpu) {
        let cpu = stats.cpu.get_or_insert_default();
        if cpu.total.is_none() {
            (cpu.total, cpu.user, cpu.system) = (read.total, read.user, read.system);
        }
        cpu.throttling = cpu.throttling.take().or(read.throttling);
    }
    stats.memory = stats.memory.take().or_else(|| memory(directory));
    stats.io = stats.io.take().or_else(|| directory.text("io.stat").map(|text| io(&text)));
    stats.pids = stats.pids.take().or_else(|| pids(directory));
    let sizes = directory.page_sizes(".current");
    if stats.hugetlb.is_none() && !sizes.is_empty() {
        let size = |size: String| {
            let used = huge_pages(directory, &format!("hugetlb.{size}"))?;
            let reserved = huge_pages(directory, &format!("hugetlb.{size}.rsvd"));
            Some((size, HugePages { used, reserved }))
        };
        stats.hugetlb = Some(sizes.into_iter().filter_map(size).collect());
    }
    let waited = |file: &str| directory.text(file).as_deref().and_then(pressure);
    stats.pressure.cpu = waited("cpu.pressure");
    stats.pressure.memory = waited("memory.pressure");
    stats.pressure.io = waited("io.pressure");
}

fn cpu(text: &str) -> Option<Cpu> {
    let time = |name: &str| pair(text, name).map(|time| time * MICROSECOND);
    let throttling = || {
        Some(Throttling {
            periods: pair(text, "nr_periods")?,
            throttled_periods: pair(text, "nr_throttled")?,
            throttled_time: time("throttled_usec")?,
        })
    };
    Some(Cpu {
        total: Some(time("usage_usec")?),
        user: time("user_usec"),
        system: time("system_usec"),
        throttling: throttling(),
        ..Cpu::default()
    })
}

fn memory(directory: &Directory) -> Option<Memory> {
    let events = directory.text("memory.events").unwrap_or_default();
    let all = Usage {
        usage: directory.number("memory.current")?,
        limit: directory.number("memory.max")?,
        max_usage: directory.number("memory.peak"),
        failcnt: pair(&events, "max"),
    };
    let swap = directory.number("memory.swap.current").map(|usage| Usage {
        usage,
        limit: directory.number("memory.swap.max").unwrap_or(UNLIMITED),
        max_usage: directory.number("memory.swap.peak"),
        failcnt: directory.text("memory.swap.events").and_then(|text| pair(&text, "max")),
    });
    let with_swap = swap.as_ref().map(|swap| Usage {
        usage: all.usage + swap.usage,
        limit: all.limit.saturating_add(swap.limit),
        max_usage: None,
        failcnt: None,
    });
    let text = directory.text("memory.stat").unwrap_or_default();
    Some(Memory {
        all,
        swap,
        with_swap,
        kernel: kernel(&text),
        kernel_usage: [None, None],
        ooms: pair(&events, "oom"),
        oom_kills: pair(&events, "oom_kill"),
        stat: pairs(&text).map(|(name, value)| (name.to_owned(), value)).collect(),
    })
}

/// The sum is there since Linux 5.18, its larger parts were before.
fn kernel(stat: &str) -> Option<u64> {
    let parts = ["kernel_stack", "pagetables", "percpu", "slab"];
    let part = |name: &&str| pair(stat, name);
    let sum = || parts.iter().map(part).try_fold(0, |sum, part| Some(sum + part?));
    pair(stat, "kernel").or_else(sum)
}

pub(super) fn oom_kills(directory: &Directory) -> Option<u64> {
    pair(&directory.text("memory.events")?, "oom_kill")
}

pub(super) fn ooms(directory: &Directory) -> Option<u64> {
    pair(&directory.text("memory.events")?, "oom")
}

fn io(text: &str) -> Io {
    Io {
        bytes: io_fields(text, &[("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")]),
        operations: io_fields(text, &[("rios", "Read"), ("wios", "Write"), ("dios", "Discard")]),
    }
}

fn pids(directory: &Directory) -> Option<Pids> {
    Some(Pids { current: directory.number("pids.current")?, limit: directory.number("pids.max")? })
}

fn huge_pages(directory: &Directory, prefix: &str) -> Option<Usage> {
    Some(Usage {
        usage: directory.number(&format!("{prefix}.current"))?,
        limit: directory.number(&format!("{prefix}.max"))?,
        max_usage: None,
        failcnt: directory.text(&format!("{prefix}.events")).and_then(|text| pair(&text, "max")),
    })
}
