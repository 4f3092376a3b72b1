//! Version 1's files.

use super::super::group::Directory;
use super::parse::{io_lines, pair, pairs};
use super::{HugePages, Io, Memory, NO_LIMIT_FROM, Pids, Stats, Throttling, UNLIMITED, Usage};

/// Ticks of a process's clock are this long on every architecture that containers run on.
const TICK: u64 = 10_000_000;

pub(super) fn read(directory: &Directory, stats: &mut Stats) {
    if directory.has("cpuacct") {
        accounting(directory, stats);
    }
    if directory.has("cpu")
        && let Some(text) = directory.text("cpu.stat")
    {
        stats.cpu.get_or_insert_default().throttling = throttling(&text);
    }
    if directory.has("cpuset") {
        cpuset(directory, stats);
    }
    if directory.has("memory") {
        stats.memory = memory(directory);
    }
    if directory.has("blkio") {
        stats.io = io(directory);
    }
    if directory.has("pids") {
        stats.pids = pids(directory);
    }
    if directory.has("hugetlb") {
        let size = |size: String| {
            let used = usage(directory, &format!("hugetlb.{size}"))?;
            let reserved = usage(directory, &format!("hugetlb.{size}.rsvd"));
            Some((size, HugePages { used, reserved }))
        };
        let sizes = directory.page_sizes(".usage_in_bytes");
        stats.hugetlb = Some(sizes.into_iter().filter_map(size).collect());
    }
}

fn accounting(directory: &Directory, stats: &mut Stats) {
    let Some(total) = directory.number("cpuacct.usage") else { return };
    let cpu = stats.cpu.get_or_insert_default();
    cpu.total = Some(total);
    if let Some(text) = directory.text("cpuacct.stat") {
        cpu.user = pair(&text, "user").map(|ticks| ticks * TICK);
        cpu.system = pair(&text, "system").map(|ticks| ticks * TICK);
    }
    let all = directory.text("cpuacct.usage_percpu");
    let numbers = |text: String| text.split_whitespace().map_while(|it| it.parse().ok()).collect();
    cpu.per_cpu = all.map(numbers);
    // A line of names, then one a processor: its number, programs, kernel.
    for line in directory.text("cpuacct.usage_all").unwrap_or_default().lines().skip(1) {
        let mut fields = line.split(' ').skip(1).map_while(|field| field.parse::<u64>().ok());
        cpu.per_cpu_user.extend(fields.next());
        cpu.per_cpu_system.extend(fields.next());
    }
}

fn throttling(text: &str) -> Option<Throttling> {
    Some(Throttling {
        periods: pair(text, "nr_periods")?,
        throttled_periods: pair(text, "nr_throttled")?,
        throttled_time: pair(text, "throttled_time")?,
    })
}

fn cpuset(directory: &Directory, stats: &mut Stats) {
    const FILES: [&str; 11] = [
        "cpus",
        "cpu_exclusive",
        "mems",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ];
    let text = |name: &str| directory.text(&format!("cpuset.{name}"));
    let files = FILES.iter().filter_map(|name| Some(((*name).to_owned(), text(name)?)));
    stats.cpuset = files.map(|(name, text)| (name, text.trim().to_owned())).collect();
}

fn usage(directory: &Directory, prefix: &str) -> Option<Usage> {
    let number = |end: &str| directory.number(&format!("{prefix}.{end}"));
    Some(Usage {
        usage: number("usage_in_bytes")?,
        // Kernel memory has none any more.
        limit: number("limit_in_bytes").unwrap_or(0),
        max_usage: number("max_usage_in_bytes"),
        failcnt: number("failcnt"),
    })
}

fn memory(directory: &Directory) -> Option<Memory> {
    let all = usage(directory, "memory")?;
    let with_swap = usage(directory, "memory.memsw");
    let kernel = usage(directory, "memory.kmem");
    let text = directory.text("memory.stat").unwrap_or_default();
    Some(Memory {
        swap: with_swap.as_ref().map(|both| swap(&all, both, &text)),
        with_swap,
        kernel: kernel.as_ref().map(|kernel| kernel.usage),
        kernel_usage: [kernel, usage(directory, "memory.kmem.tcp")],
        ooms: None,
        oom_kills: oom_kills(directory),
        stat: pairs(&text).map(|(name, value)| (name.to_owned(), value)).collect(),
        all,
    })
}

/// Of memory and swap together, what is swap.
fn swap(memory: &Usage, both: &Usage, stat: &str) -> Usage {
    let limit = match both.limit {
        NO_LIMIT_FROM.. => UNLIMITED,
        both => both.saturating_sub(memory.limit),
    };
    let usage = pair(stat, "total_swap").unwrap_or(both.usage.saturating_sub(memory.usage));
    Usage { usage, limit, max_usage: None, failcnt: None }
}

pub(super) fn oom_kills(directory: &Directory) -> Option<u64> {
    pair(&directory.text("memory.oom_control")?, "oom_kill")
}

/// The scheduler's own figures where it has any, else those of the layer above it, which counts what
/// is throttled.
fn io(directory: &Directory) -> Option<Io> {
    let lines = |kind: &str, figure: &str| {
        let text = directory.text(&format!("blkio.{kind}{figure}"))?;
        Some(io_lines(&text)).filter(|lines| !lines.is_empty())
    };
    let kinds = [
        ("bfq.", "_recursive"),
        ("", "_recursive"),
        ("throttle.", "_recursive"),
        ("throttle.", ""),
    ];
    let of_kind = |(kind, end): (&str, &str)| {
        let operations = lines(kind, &format!("io_serviced{end}"))?;
        Some(Io { bytes: lines(kind, &format!("io_service_bytes{end}"))?, operations })
    };
    Some(kinds.into_iter().find_map(of_kind).unwrap_or_default())
}

fn pids(directory: &Directory) -> Option<Pids> {
    Some(Pids { current: directory.number("pids.current")?, limit: directory.number("pids.max")? })
}
