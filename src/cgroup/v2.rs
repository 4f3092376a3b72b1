//! The specification's limits, thought out for version 1, as version 2's files.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork};

use super::plan::Write;
use super::v1::{BLOCK_IO, CPU, MEMORY, hugepages, set, throttles};
pub(super) use super::v1::{cpuset, pids, rdma};
use crate::error::{Error, Result};

fn none_in_v2(property: String, value: String) -> Error {
    let section = "config-linux.md#control-groups";
    Error::spec(property, Some(value), section, "cgroup version 2 has nothing like it")
        .hint("drop it, or use $.linux.resources.unified")
}

pub(super) fn memory(memory: &LinuxMemory) -> Result<Vec<Write>> {
    let at = |name: &str| format!("{MEMORY}.{name}");
    if let Some(swappiness) = memory.swappiness() {
        return Err(none_in_v2(at("swappiness"), swappiness.to_string()));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(none_in_v2(at("disableOOMKiller"), "true".to_owned()));
    }
    let mut writes = Vec::new();
    if let Some(swap) = swap(memory)? {
        let write = Write::new("memory.swap.max", &swap, at("swap"));
        // A kernel that accounts no swap has no such file, and then none is used, or any.
        let holds_without = swap == "max" || swap == "0";
        writes.push(if holds_without { write.if_present() } else { write });
    }
    if let Some(limit) = set(memory.limit()) {
        // The kernel ends processes until a limit below what they use is kept to.
        let checked = memory.check_before_update() == Some(true) && limit > 0;
        let write = Write::new("memory.max", or_max(limit), at("limit"));
        writes.push(write.not_below(checked.then_some("memory.current")));
    }
    if let Some(reservation) = set(memory.reservation()) {
        writes.push(Write::new("memory.low", or_max(reservation), at("reservation")));
    }
    Ok(writes)
}

/// The specification's swap is memory and swap together, version 2's is swap alone.
fn swap(memory: &LinuxMemory) -> Result<Option<String>> {
    let wrong = |swap: i64, why: &str| {
        let section = "config-linux.md#memory";
        Error::spec(format!("{MEMORY}.swap"), Some(swap.to_string()), section, why)
    };
    match (set(memory.swap()), set(memory.limit())) {
        (None, Some(-1)) | (Some(-1), _) => Ok(Some("max".to_owned())),
        (None, _) => Ok(None),
        (Some(swap), Some(-1)) => {
            Err(wrong(swap, "of memory and swap together, where memory.limit is none"))
        }
        (Some(swap), None) => {
            Err(wrong(swap, "cannot be converted to cgroup version 2 without memory.limit"))
        }
        (Some(swap), Some(limit)) if swap < limit => {
            Err(wrong(swap, "less than memory.limit, of which it is memory and swap together"))
        }
        (Some(swap), Some(limit)) => Ok(Some((swap - limit).to_string())),
    }
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

pub(super) fn cpu(cpu: &LinuxCpu) -> Result<Vec<Write>> {
    let at = |name: &str| format!("{CPU}.{name}");
    if let Some(period) = set(cpu.realtime_period()) {
        return Err(none_in_v2(at("realtimePeriod"), period.to_string()));
    }
    if let Some(runtime) = set(cpu.realtime_runtime()) {
        return Err(none_in_v2(at("realtimeRuntime"), runtime.to_string()));
    }
    let mut writes = Vec::new();
    // The kernel refuses a weight for an idle group, so that idle comes after.
    if let Some(shares) = set(cpu.shares()) {
        writes.push(Write::new("cpu.weight", weight(shares), at("shares")).again());
    }
    if let Some(idle) = cpu.idle() {
        writes.push(Write::new("cpu.idle", idle, at("idle")));
    }
    match (set(cpu.quota()), set(cpu.period())) {
        (None, None) => {}
        (quota, period) => {
            let value = format!("{} {}", or_max(quota.unwrap_or(-1)), period.unwrap_or(100_000));
            let asked = if quota.is_some() { "quota" } else { "period" };
            writes.push(Write::new("cpu.max", value, at(asked)).again());
        }
    }
    if let Some(burst) = cpu.burst() {
        writes.push(Write::new("cpu.max.burst", burst, at("burst")).again());
    }
    Ok(writes)
}

/// Shares of 2 to 262144 with 1024 as default, as a weight of 1 to 10000 with 100 as default.
///
/// The curve that meets all three points is a power of ten whose exponent is quadratic in the
/// shares' logarithm; a straight line would make the default of one a 39 of the other.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

pub(super) fn block_io(io: &LinuxBlockIo) -> Result<Vec<Write>> {
    let at = |name: &str| format!("{BLOCK_IO}.{name}");
    if let Some(weight) = set(io.leaf_weight()) {
        return Err(none_in_v2(at("leafWeight"), weight.to_string()));
    }
    let mut writes = Vec::new();
    if let Some(weight) = set(io.weight()) {
        let write = Write::new("io.bfq.weight", weight, at("weight"));
        writes.push(write.or_else("io.weight", io_weight(weight)));
    }
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        if let Some(weight) = set(device.leaf_weight()) {
            let path = at(&format!("weightDevice[{index}].leafWeight"));
            return Err(none_in_v2(path, weight.to_string()));
        }
        let Some(weight) = set(device.weight()) else { continue };
        let number = format!("{}:{}", device.major(), device.minor());
        let write = Write::new("io.bfq.weight", format!("{number} {weight}"), at("weightDevice"));
        writes.push(write.or_else("io.weight", format!("{number} {}", io_weight(weight))));
    }
    const KEYS: [&str; 4] = ["rbps", "wbps", "riops", "wiops"];
    for ((devices, _, name), key) in throttles(io).into_iter().zip(KEYS) {
        for device in devices {
            // Version 1 takes no rate for no limit, version 2 refuses it.
            let rate = match device.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let value = format!("{}:{} {key}={rate}", device.major(), device.minor());
            writes.push(Write::new("io.max", value, at(name)));
        }
    }
    Ok(writes)
}

/// 10 to 1000 onto 1 to 10000, in a straight line.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

pub(super) fn hugetlb(limits: &[LinuxHugepageLimit]) -> Result<Vec<Write>> {
    hugepages(limits, "max")
}

/// Never placed: the controller does not exist in version 2.
pub(super) fn net_cls(network: &LinuxNetwork) -> Result<Vec<Write>> {
    super::v1::net_cls(network)
}

/// Never placed: the controller does not exist in version 2.
pub(super) fn net_prio(network: &LinuxNetwork) -> Result<Vec<Write>> {
    super::v1::net_prio(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_at_the_ends_and_the_default() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 100, 10_000]);
        assert_eq!([10, 1000].map(io_weight), [1, 10_000]);
    }
}
