//! `linux.resources`: numbers that no controller would take.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
};

use super::{Warnings, fault, missing};
use crate::Result;
use crate::spec::parse::join;

pub(super) fn validate(resources: &LinuxResources, warnings: &mut Warnings) -> Result<()> {
    for (index, rule) in resources.devices().iter().flatten().enumerate() {
        device_rule(index, rule)?;
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, warnings)?;
    }
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu)?;
    }
    if let Some(block_io) = resources.block_io() {
        self::block_io(block_io)?;
    }
    huge_pages(resources)?;
    network(resources)?;
    rdma(resources)?;
    unified(resources)
}

fn device_rule(index: usize, rule: &LinuxDeviceCgroup) -> Result<()> {
    let path = format_args!("$.linux.resources.devices[{index}]");
    let access = rule.access().as_deref().unwrap_or_default();
    if access.is_empty() {
        return Err(missing(format_args!("{path}.access")).hint("\"rwm\" is all access"));
    }
    if !access.bytes().all(|byte| b"rwm".contains(&byte)) {
        let message = "must be made of r (read), w (write) and m (mknod)";
        return Err(fault(format_args!("{path}.access"), access, message));
    }
    if let Some(kind @ (LinuxDeviceType::U | LinuxDeviceType::P)) = rule.typ() {
        return Err(fault(format_args!("{path}.type"), kind, "must be a, b or c"));
    }
    for (name, number) in [("major", rule.major()), ("minor", rule.minor())] {
        // −1 is every number, as in other runtimes.
        if let Some(number @ ..=-2) = number {
            return Err(fault(format_args!("{path}.{name}"), number, "must not be negative"));
        }
    }
    Ok(())
}

fn memory(memory: &LinuxMemory, warnings: &mut Warnings) -> Result<()> {
    #[allow(deprecated, reason = "it is read to warn that it has no effect")]
    let kernel = memory.kernel();
    let limits = [
        ("limit", memory.limit()),
        ("reservation", memory.reservation()),
        ("swap", memory.swap()),
        ("kernel", kernel),
        ("kernelTCP", memory.kernel_tcp()),
    ];
    for (name, limit) in limits {
        if let Some(limit @ ..=-2) = limit {
            let path = format_args!("$.linux.resources.memory.{name}");
            return Err(fault(path, limit, "must be a number of bytes, or -1 for unlimited"));
        }
    }
    if let (Some(limit @ 1..), Some(swap @ 1..)) = (memory.limit(), memory.swap())
        && swap < limit
    {
        let message = format!("is memory and swap together, and so at least the limit, {limit}");
        return Err(fault("$.linux.resources.memory.swap", swap, message));
    }
    if let Some(swappiness @ 101..) = memory.swappiness() {
        let path = "$.linux.resources.memory.swappiness";
        return Err(fault(path, swappiness, "must be between 0 and 100"));
    }
    if kernel.is_some_and(|limit| limit > 0) {
        warnings.add("$.linux.resources.memory.kernel", "has no effect since Linux 5.4");
    }
    if memory.use_hierarchy() == Some(false) {
        let message = "has no effect: Linux accounts along the hierarchy since 5.11";
        warnings.add("$.linux.resources.memory.useHierarchy", message);
    }
    Ok(())
}

fn cpu(cpu: &LinuxCpu) -> Result<()> {
    if let (Some(burst), Some(quota @ 1..)) = (cpu.burst(), cpu.quota())
        && burst > quota.unsigned_abs()
    {
        let message = format!("must not be larger than the quota, {quota}");
        return Err(fault("$.linux.resources.cpu.burst", burst, message));
    }
    if let Some(idle) = cpu.idle().filter(|idle| !matches!(idle, 0 | 1)) {
        return Err(fault("$.linux.resources.cpu.idle", idle, "must be 0 or 1"));
    }
    for (name, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !is_list(list)) {
            let path = format_args!("$.linux.resources.cpu.{name}");
            let message = "must be a list of numbers and ranges, such as 0-3,7";
            return Err(fault(path, list, message));
        }
    }
    Ok(())
}

/// The alphabet of the kernel's bitmap lists; what it makes of them is its own.
pub(super) fn is_list(list: &str) -> bool {
    list.bytes().all(|byte| byte.is_ascii_digit() || b"-,:/ \n".contains(&byte))
}

fn block_io(block_io: &LinuxBlockIo) -> Result<()> {
    let weight = |path: String, weight: Option<u16>| match weight {
        // Zero is what encoders write for none.
        None | Some(0 | 10..=1000) => Ok(()),
        Some(weight) => Err(fault(path, weight, "must be between 10 and 1000")),
    };
    let path = "$.linux.resources.blockIO";
    weight(format!("{path}.weight"), block_io.weight())?;
    weight(format!("{path}.leafWeight"), block_io.leaf_weight())?;
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        let path = format!("{path}.weightDevice[{index}]");
        if device.weight().is_none() && device.leaf_weight().is_none() {
            return Err(fault(path, device, "must have a weight or a leafWeight"));
        }
        numbers(&path, device.major(), device.minor())?;
        weight(format!("{path}.weight"), device.weight())?;
        weight(format!("{path}.leafWeight"), device.leaf_weight())?;
    }
    let throttles = [
        ("throttleReadBpsDevice", block_io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", block_io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", block_io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", block_io.throttle_write_iops_device()),
    ];
    for (name, devices) in throttles {
        for (index, device) in devices.iter().flatten().enumerate() {
            numbers(&format!("{path}.{name}[{index}]"), device.major(), device.minor())?;
        }
    }
    Ok(())
}

fn numbers(path: &str, major: i64, minor: i64) -> Result<()> {
    for (name, number) in [("major", major), ("minor", minor)] {
        if number < 0 {
            return Err(fault(format_args!("{path}.{name}"), number, "must not be negative"));
        }
    }
    Ok(())
}

fn huge_pages(resources: &LinuxResources) -> Result<()> {
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let path = format_args!("$.linux.resources.hugepageLimits[{index}]");
        if !is_page_size(limit.page_size()) {
            let message = "must be a size such as 64KB, 2MB or 1GB";
            return Err(fault(format_args!("{path}.pageSize"), limit.page_size(), message));
        }
        if limit.limit() < 0 {
            return Err(fault(format_args!("{path}.limit"), limit.limit(), "must not be negative"));
        }
    }
    Ok(())
}

fn is_page_size(size: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    number.is_some_and(|number| {
        !number.starts_with('0') && number.parse::<u64>().is_ok() && !number.starts_with('+')
    })
}

fn network(resources: &LinuxResources) -> Result<()> {
    let priorities = resources.network().as_ref().and_then(|network| network.priorities().as_ref());
    for (index, priority) in priorities.into_iter().flatten().enumerate() {
        if priority.name().is_empty() {
            let path = format_args!("$.linux.resources.network.priorities[{index}].name");
            return Err(missing(path));
        }
    }
    Ok(())
}

fn rdma(resources: &LinuxResources) -> Result<()> {
    for (device, limits) in resources.rdma().iter().flatten() {
        let written = serde_json::to_value(limits).unwrap_or_default();
        if written.as_object().is_none_or(serde_json::Map::is_empty) {
            let path = join("$.linux.resources.rdma", device);
            return Err(fault(path, written, "must have hcaHandles or hcaObjects"));
        }
    }
    Ok(())
}

fn unified(resources: &LinuxResources) -> Result<()> {
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains(['/', '\0']) || !file.contains('.') || file.starts_with('.') {
            let path = join("$.linux.resources.unified", file);
            let message = "the key must be a file of the cgroup, such as memory.high";
            return Err(fault(path, value, message));
        }
    }
    Ok(())
}
