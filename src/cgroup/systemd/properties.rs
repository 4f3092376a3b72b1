//! What systemd is told of a scope.
//!
//! Whenever it applies a unit's properties, on `daemon-reload` for one, it
//! writes what it knows of the cgroup's limits. So it is told of every limit
//! that it has a property for (systemd.resource-control(5)), and the others are
//! files that it does not touch.

use std::fmt;

use nix::unistd::Pid;

use super::super::devices::Policy;
use super::super::plan::{Absent, Write};

/// A property of a unit, by the name that it has on the bus.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Property {
    pub(super) name: &'static str,
    pub(super) value: Value,
}

/// A value, of one of the bus's types.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Value {
    Switch(bool),
    Number(u64),
    Text(String),
    /// Bits, the lowest first.
    Set(Vec<u8>),
    Processes(Vec<u32>),
    /// Devices and what may be done to them.
    Devices(Vec<(String, String)>),
}

impl Property {
    pub(in super::super) fn processes(pids: &[Pid]) -> Self {
        let pids = pids.iter().map(|pid| pid.as_raw().unsigned_abs()).collect();
        Property { name: "PIDs", value: Value::Processes(pids) }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name)?;
        match &self.value {
            Value::Switch(value) => write!(f, "{value}"),
            Value::Number(u64::MAX) => f.write_str("infinity"),
            Value::Number(value) => write!(f, "{value}"),
            Value::Text(value) => write!(f, "{value:?}"),
            Value::Set(bits) => {
                let hex = bits.iter().rev().map(|byte| format!("{byte:02x}"));
                write!(f, "0x{}", hex.collect::<String>())
            }
            Value::Processes(pids) => write!(f, "{pids:?}"),
            Value::Devices(devices) => {
                let all: Vec<String> =
                    devices.iter().map(|(device, access)| format!("{device} {access}")).collect();
                write!(f, "[{}]", all.join(", "))
            }
        }
    }
}

const fn switch(name: &'static str, value: bool) -> Property {
    Property { name, value: Value::Switch(value) }
}

const fn number(name: &'static str, value: u64) -> Property {
    Property { name, value: Value::Number(value) }
}

fn text(name: &'static str, value: impl Into<String>) -> Property {
    Property { name, value: Value::Text(value.into()) }
}

/// What every scope gets.
pub(in super::super) fn of_creation(id: &str, slice: &str, unified: bool) -> Vec<Property> {
    let accounting: &[&str] = match unified {
        true => &["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"],
        false => &["CPUAccounting", "MemoryAccounting", "BlockIOAccounting", "TasksAccounting"],
    };
    let mut properties = vec![
        text("Description", format!("container {id}")),
        text("Slice", slice),
        switch("Delegate", true),
        // It is not to be ended before others at shutdown, nor to wait for any.
        switch("DefaultDependencies", false),
        // One whose processes were killed leaves no failed unit behind.
        text("CollectMode", "inactive-or-failed"),
    ];
    // A controller that is enabled later does not know of what was used until then.
    properties.extend(accounting.iter().map(|name| switch(name, true)));
    properties
}

/// The properties that say what these writes say.
pub(in super::super) fn of_limits<'a>(
    writes: impl IntoIterator<Item = &'a Write>,
) -> Vec<Property> {
    let writes: Vec<&Write> = writes.into_iter().collect();
    let values = |file| writes.iter().rev().filter_map(move |write| write.value_of(file));
    let value = |file| values(file).next();
    let mut properties: Vec<Property> = NUMBERS
        .iter()
        .filter_map(|(file, name)| Some(number(name, values(file).find_map(limit)?)))
        .collect();
    properties.extend(SETS.iter().filter_map(|(file, name)| {
        Some(Property { name, value: Value::Set(bits(value(file)?)?) })
    }));
    let v1 = || match (value("cpu.cfs_quota_us"), value("cpu.cfs_period_us")) {
        (None, None) => None,
        (quota, period) => {
            Some(format!("{} {}", quota.unwrap_or("-1"), period.unwrap_or("100000")))
        }
    };
    let quota = value("cpu.max").map(str::to_owned).or_else(v1);
    properties.extend(quota.iter().filter_map(|value| bandwidth(value)).flatten());
    // A scope has no weight while it is idle, and this is how systemd says so.
    if value("cpu.idle") == Some("1") {
        properties.retain(|property| property.name != "CPUWeight");
        properties.push(number("CPUWeight", 0));
    }
    if value("cpu.idle") == Some("0") && value("cpu.weight").is_none() {
        // The default; it would stay idle otherwise.
        properties.push(number("CPUWeight", u64::MAX));
    }
    properties
}

const NUMBERS: [(&str, &str); 13] = [
    ("memory.max", "MemoryMax"),
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("cpu.weight", "CPUWeight"),
    ("io.weight", "IOWeight"),
    ("pids.max", "TasksMax"),
    // Version 1's.
    ("memory.limit_in_bytes", "MemoryLimit"),
    ("cpu.shares", "CPUShares"),
    ("blkio.weight", "BlockIOWeight"),
    ("memory.zswap.max", "MemoryZSwapMax"),
    ("memory.swap.high", "MemorySwapHigh"),
];

const SETS: [(&str, &str); 2] =
    [("cpuset.cpus", "AllowedCPUs"), ("cpuset.mems", "AllowedMemoryNodes")];

impl Write {
    /// What it writes into a file, be it in place of another.
    fn value_of(&self, file: &str) -> Option<&str> {
        match &self.absent {
            _ if self.file == file => Some(&self.value),
            Absent::Instead { file: other, value } if other == file => Some(value),
            _ => None,
        }
    }
}

/// As systemd has it; the weight of a device alone is no number and stays a file.
fn limit(value: &str) -> Option<u64> {
    match value.strip_prefix("default ").unwrap_or(value) {
        "max" | "-1" => Some(u64::MAX),
        // It takes none for no limit.
        number => number.parse().ok(),
    }
}

/// `0-2,5` as bits.
fn bits(list: &str) -> Option<Vec<u8>> {
    let words = crate::spec::parse_list(list, crate::spec::MOST_PROCESSORS).ok()?;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used);
    Some(bytes)
}

/// systemd keeps hundredths of a processor and writes what comes of that; it is told no less than
/// what was asked for, and the file says exactly that until then.
fn bandwidth(value: &str) -> Option<[Property; 2]> {
    const SECOND: u64 = 1_000_000;
    const HUNDREDTH: u64 = SECOND / 100;
    let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
    let period: u64 = period.parse().ok().filter(|period| *period != 0)?;
    let each_second = match quota {
        "max" | "-1" => u64::MAX,
        quota => {
            let exact = quota.parse::<u64>().ok()?.saturating_mul(SECOND) / period;
            exact.div_ceil(HUNDREDTH).saturating_mul(HUNDREDTH)
        }
    };
    Some([number("CPUQuotaPeriodUSec", period), number("CPUQuotaPerSecUSec", each_second)])
}

/// Where devices are refused; version 1 would be opened to all of them otherwise.
pub(super) fn of_devices(policy: &Policy) -> Vec<Property> {
    let Some(allowed) = policy.allowed() else { return Vec::new() };
    vec![
        text("DevicePolicy", "strict"),
        Property { name: "DeviceAllow", value: Value::Devices(allowed) },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::Write;
    use super::of_limits;

    fn said(writes: &[(&str, &str)]) -> Vec<String> {
        let writes: Vec<Write> =
            writes.iter().map(|(file, value)| Write::new(*file, value, "$")).collect();
        of_limits(&writes).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_limit_has_a_property_that_says_the_same() {
        assert_eq!(
            said(&[("memory.max", "1048576"), ("memory.oom.group", "1")]),
            ["MemoryMax=1048576"]
        );
        assert_eq!(said(&[("pids.max", "max")]), ["TasksMax=infinity"]);
        assert_eq!(said(&[("cpuset.cpus", "0-2,9")]), ["AllowedCPUs=0x0207"]);
        let weights = [("io.weight", "default 50"), ("io.weight", "8:0 70")];
        assert_eq!(said(&weights), ["IOWeight=50"]);
        let write = Write::new("io.bfq.weight", 10, "$").or_else("io.weight", 1);
        assert_eq!(of_limits([&write])[0].to_string(), "IOWeight=1");
        assert_eq!(said(&[("cpu.weight", "7"), ("cpu.idle", "1")]), ["CPUWeight=0"]);
        assert_eq!(said(&[("cpu.idle", "0")]), ["CPUWeight=infinity"]);
        assert_eq!(said(&[("cpu.weight", "7"), ("cpu.idle", "0")]), ["CPUWeight=7"]);
    }

    #[test]
    fn a_quota_is_rounded_up_to_what_systemd_can_keep() {
        let period = "CPUQuotaPeriodUSec=100000";
        assert_eq!(said(&[("cpu.max", "50000 100000")]), [period, "CPUQuotaPerSecUSec=500000"]);
        assert_eq!(said(&[("cpu.max", "12345 100000")]), [period, "CPUQuotaPerSecUSec=130000"]);
        assert_eq!(said(&[("cpu.max", "max 100000")]), [period, "CPUQuotaPerSecUSec=infinity"]);
        assert_eq!(said(&[("cpu.cfs_quota_us", "50000")]), [period, "CPUQuotaPerSecUSec=500000"]);
    }
}
