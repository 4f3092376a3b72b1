//! The specification's limits as version 1's files.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxRdma,
    LinuxThrottleDevice,
};

use super::plan::Write;
use crate::error::{Error, Result};

pub(super) const MEMORY: &str = "$.linux.resources.memory";
pub(super) const CPU: &str = "$.linux.resources.cpu";
pub(super) const PIDS: &str = "$.linux.resources.pids.limit";
pub(super) const BLOCK_IO: &str = "$.linux.resources.blockIO";
const HUGETLB: &str = "$.linux.resources.hugepageLimits";
const NETWORK: &str = "$.linux.resources.network";

/// Zero stands for unset, as configs written by tools have it for what their user left out.
pub(super) fn set<T: Default + PartialEq + Copy>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

pub(super) fn memory(memory: &LinuxMemory) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    let at = |name: &str| format!("{MEMORY}.{name}");
    // The kernel keeps limit ≤ memory and swap at every moment: raising both, the limit has to
    // come second, lowering both it has to come first.
    let limit = set(memory.limit());
    if let Some(limit) = limit {
        writes.push(Write::new("memory.limit_in_bytes", limit, at("limit")).again());
    }
    match (set(memory.swap()), limit) {
        (Some(swap), _) => {
            writes.push(Write::new("memory.memsw.limit_in_bytes", swap, at("swap")).again());
        }
        // No limit to memory means none to memory and swap, unless that is said too.
        (None, Some(-1)) => writes
            .push(Write::new("memory.memsw.limit_in_bytes", -1, at("limit")).again().if_present()),
        (None, _) => {}
    }
    if let Some(reservation) = set(memory.reservation()) {
        writes.push(Write::new("memory.soft_limit_in_bytes", reservation, at("reservation")));
    }
    if let Some(disabled) = memory.disable_oom_killer() {
        let write = Write::new("memory.oom_control", u8::from(disabled), at("disableOOMKiller"));
        // A cgroup begins with what the one above it says; an update may take it back.
        writes.push(if disabled { write } else { write.if_present() });
    }
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            let section = "config-linux.md#memory";
            let value = Some(swappiness.to_string());
            return Err(Error::spec(at("swappiness"), value, section, "not within 0 and 100"));
        }
        writes.push(Write::new("memory.swappiness", swappiness, at("swappiness")));
    }
    Ok(writes)
}

pub(super) fn cpu(cpu: &LinuxCpu) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    let mut push = |file: &str, value: Option<String>, name: &str| {
        writes.extend(value.map(|value| Write::new(file, value, format!("{CPU}.{name}")).again()));
    };
    if let Some(shares) = set(cpu.shares()).filter(|shares| !(2..=262_144).contains(shares)) {
        // The kernel would take it and clamp it in silence.
        let section = "config-linux.md#cpu";
        let property = format!("{CPU}.shares");
        let why = "not within 2 and 262144";
        return Err(Error::spec(property, Some(shares.to_string()), section, why));
    }
    push("cpu.rt_period_us", text(set(cpu.realtime_period())), "realtimePeriod");
    push("cpu.rt_runtime_us", text(set(cpu.realtime_runtime())), "realtimeRuntime");
    push("cpu.shares", text(set(cpu.shares())), "shares");
    push("cpu.cfs_period_us", text(set(cpu.period())), "period");
    push("cpu.cfs_quota_us", text(set(cpu.quota())), "quota");
    // A burst may be as large as the quota, so it comes after.
    push("cpu.cfs_burst_us", text(cpu.burst()), "burst");
    push("cpu.idle", text(cpu.idle()), "idle");
    Ok(writes)
}

fn text<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// The names are the same in both versions.
pub(super) fn cpuset(cpu: &LinuxCpu) -> Result<Vec<Write>> {
    let cpus = cpu.cpus().iter().filter(|cpus| !cpus.is_empty());
    let mems = cpu.mems().iter().filter(|mems| !mems.is_empty());
    let cpus = cpus.map(|cpus| Write::new("cpuset.cpus", cpus, format!("{CPU}.cpus")));
    let mems = mems.map(|mems| Write::new("cpuset.mems", mems, format!("{CPU}.mems")));
    Ok(cpus.chain(mems).collect())
}

/// The names are the same in both versions.
pub(super) fn pids(pids: &LinuxPids) -> Result<Vec<Write>> {
    let limit = match pids.limit() {
        limit if limit < 0 => "max".to_owned(),
        // systemd knows no less, and with one no process has another either.
        limit => limit.max(1).to_string(),
    };
    Ok(vec![Write::new("pids.max", limit, PIDS)])
}

pub(super) fn block_io(io: &LinuxBlockIo) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    let at = |name: &str| format!("{BLOCK_IO}.{name}");
    // The scheduler that is built in decides which name the file has.
    if let Some(weight) = set(io.weight()) {
        let write = Write::new("blkio.weight", weight, at("weight"));
        writes.push(write.or_else("blkio.bfq.weight", weight));
    }
    if let Some(weight) = set(io.leaf_weight()) {
        writes.push(Write::new("blkio.leaf_weight", weight, at("leafWeight")));
    }
    for device in io.weight_device().iter().flatten() {
        let (major, minor) = (device.major(), device.minor());
        if let Some(weight) = set(device.weight()) {
            let value = format!("{major}:{minor} {weight}");
            let write = Write::new("blkio.weight_device", &value, at("weightDevice"));
            writes.push(write.or_else("blkio.bfq.weight_device", &value));
        }
        if let Some(weight) = set(device.leaf_weight()) {
            let value = format!("{major}:{minor} {weight}");
            writes.push(Write::new("blkio.leaf_weight_device", value, at("weightDevice")));
        }
    }
    for (devices, file, name) in throttles(io) {
        for device in devices {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            writes.push(Write::new(format!("blkio.throttle.{file}"), value, at(name)));
        }
    }
    Ok(writes)
}

/// The four lists of throttled devices: version 1's file, the property.
pub(super) fn throttles(
    io: &LinuxBlockIo,
) -> [(&[LinuxThrottleDevice], &'static str, &'static str); 4] {
    let list = |devices| Option::as_deref(devices).unwrap_or_default();
    [
        (list(io.throttle_read_bps_device()), "read_bps_device", "throttleReadBpsDevice"),
        (list(io.throttle_write_bps_device()), "write_bps_device", "throttleWriteBpsDevice"),
        (list(io.throttle_read_iops_device()), "read_iops_device", "throttleReadIOPSDevice"),
        (list(io.throttle_write_iops_device()), "write_iops_device", "throttleWriteIOPSDevice"),
    ]
}

pub(super) fn hugetlb(limits: &[LinuxHugepageLimit]) -> Result<Vec<Write>> {
    hugepages(limits, "limit_in_bytes")
}

/// Reservations too, where the kernel counts them: without, a program that reserves more than
/// its limit is killed by a bus error on first touch instead of being refused.
pub(super) fn hugepages(limits: &[LinuxHugepageLimit], suffix: &str) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        let (size, property) = (limit.page_size(), format!("{HUGETLB}[{index}]"));
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let section = "config-linux.md#huge-page-limits";
            let why = "not the size of a page";
            return Err(Error::spec(property + ".pageSize", Some(size.clone()), section, why));
        }
        let property = property + ".limit";
        let reserved = format!("hugetlb.{size}.rsvd.{suffix}");
        writes.push(Write::new(format!("hugetlb.{size}.{suffix}"), limit.limit(), &property));
        writes.push(Write::new(reserved, limit.limit(), property).if_present());
    }
    Ok(writes)
}

pub(super) fn net_cls(network: &LinuxNetwork) -> Result<Vec<Write>> {
    let class = set(network.class_id());
    let write = |class| Write::new("net_cls.classid", class, format!("{NETWORK}.classID"));
    Ok(class.map(write).into_iter().collect())
}

pub(super) fn net_prio(network: &LinuxNetwork) -> Result<Vec<Write>> {
    let priorities = network.priorities().iter().flatten();
    let property = format!("{NETWORK}.priorities");
    let value = priorities.map(|entry| format!("{} {}", entry.name(), entry.priority()));
    Ok(value.map(|value| Write::new("net_prio.ifpriomap", value, &property)).collect())
}

/// The names are the same in both versions.
pub(super) fn rdma(devices: &HashMap<String, LinuxRdma>) -> Result<Vec<Write>> {
    let mut writes: Vec<Write> = devices
        .iter()
        .map(|(device, limit)| {
            let mut value = device.clone();
            let handles = limit.hca_handles().map(|count| format!(" hca_handle={count}"));
            let objects = limit.hca_objects().map(|count| format!(" hca_object={count}"));
            value.extend(handles.into_iter().chain(objects));
            Write::new("rdma.max", value, format!("$.linux.resources.rdma[{device:?}]"))
        })
        .collect();
    writes.sort_by(|one, other| one.value.cmp(&other.value));
    Ok(writes)
}
