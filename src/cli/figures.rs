//! Figures in the form of runc's `events`: its names, and its zeros left out where it leaves them.

use serde_json::{Map, Value, json};

use crate::cgroup::stats::{HugePages, Pressure, Share, Stats, UNLIMITED, Usage};
use crate::container::{Interface, Snapshot};
use crate::spec;

/// One line of `events`.
pub(super) fn event(kind: &str, id: &str, data: Option<Value>) -> String {
    let mut event = json!({"type": kind, "id": id});
    if let Some(data) = data {
        event["data"] = data;
    }
    event.to_string()
}

/// The figures of one moment.
pub(super) fn data(snapshot: &Snapshot) -> Value {
    let stats = &snapshot.cgroup;
    let sizes = stats.hugetlb.iter().flatten();
    let hugetlb: Map<String, Value> =
        sizes.map(|(size, pages)| (size.clone(), huge_pages(pages))).collect();
    let network = snapshot.network.as_ref();
    json!({
        "cpu": cpu(stats),
        "cpuset": cpuset(stats),
        "memory": memory(stats),
        "pids": stats.pids.as_ref().map_or(json!({}), |pids| {
            let limit = if pids.limit == UNLIMITED { 0 } else { pids.limit };
            without_zeros(json!({"current": pids.current, "limit": limit}))
        }),
        "blkio": blkio(stats),
        "hugetlb": hugetlb,
        "intel_rdt": {},
        "network_interfaces": network.map(|all| all.iter().map(interface).collect::<Vec<_>>()),
    })
}

fn without_zeros(mut object: Value) -> Value {
    let is_zero = |value: &Value| match value {
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null => true,
        _ => false,
    };
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !is_zero(value));
    }
    object
}

/// An object of which some figures are left out when zero and others are not.
fn object(optional: Value, always: Value) -> Value {
    let mut object = without_zeros(optional);
    if let (Some(fields), Value::Object(always)) = (object.as_object_mut(), always) {
        fields.extend(always);
    }
    object
}

fn cpu(stats: &Stats) -> Value {
    let psi = psi(stats.pressure.cpu.as_ref());
    let cpu = stats.cpu.clone().unwrap_or_default();
    let usage = object(
        json!({
            "total": cpu.total,
            "percpu": cpu.per_cpu,
            "percpu_kernel": cpu.per_cpu_system,
            "percpu_user": cpu.per_cpu_user,
        }),
        json!({"kernel": cpu.system.unwrap_or(0), "user": cpu.user.unwrap_or(0)}),
    );
    let throttling = cpu.throttling.unwrap_or_default();
    let throttling = without_zeros(json!({
        "periods": throttling.periods,
        "throttledPeriods": throttling.throttled_periods,
        "throttledTime": throttling.throttled_time,
    }));
    object(json!({"psi": psi}), json!({"usage": usage, "throttling": throttling}))
}

fn cpuset(stats: &Stats) -> Value {
    const FLAGS: [&str; 9] = [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ];
    let file = |name: &str| stats.cpuset.get(name).map_or("", String::as_str);
    let flags = FLAGS.iter().map(|name| {
        let value: i64 = file(name).parse().unwrap_or(0);
        ((*name).to_owned(), Value::from(value))
    });
    let lists = json!({"cpus": numbers(file("cpus")), "mems": numbers(file("mems"))});
    object(lists, Value::Object(flags.collect()))
}

fn numbers(list: &str) -> Vec<u32> {
    let words = spec::parse_list(list, u16::MAX.into()).unwrap_or_default();
    let bits = words.iter().enumerate().flat_map(|(at, word)| {
        (0..u64::BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at as u32 * 64 + bit)
    });
    bits.collect()
}

fn memory(stats: &Stats) -> Value {
    let psi = psi(stats.pressure.memory.as_ref());
    let memory = stats.memory.clone().unwrap_or_default();
    let cache = memory.stat.get("cache").or(memory.stat.get("file"));
    let [kernel, tcp] = memory.kernel_usage;
    // What nobody counts is there all the same, as zero.
    let usage = |entry: Option<Usage>| usage(&entry.unwrap_or_default());
    object(
        json!({"cache": cache, "raw": memory.stat, "psi": psi}),
        json!({
            "usage": usage(Some(memory.all)),
            "swap": usage(memory.with_swap),
            "kernel": usage(kernel),
            "kernelTCP": usage(tcp),
        }),
    )
}

fn usage(entry: &Usage) -> Value {
    object(
        json!({"usage": entry.usage, "max": entry.max_usage}),
        json!({"limit": entry.limit, "failcnt": entry.failcnt.unwrap_or(0)}),
    )
}

fn huge_pages(pages: &HugePages) -> Value {
    // Those that are set aside, as what the limit is for.
    let entry = pages.reserved.as_ref().unwrap_or(&pages.used);
    object(
        json!({"usage": entry.usage, "max": entry.max_usage}),
        json!({"failcnt": entry.failcnt.or(pages.used.failcnt).unwrap_or(0)}),
    )
}

fn blkio(stats: &Stats) -> Value {
    let io = stats.io.clone().unwrap_or_default();
    let entries = |entries: Vec<crate::cgroup::stats::IoEntry>| -> Vec<Value> {
        let entry = |it| without_zeros(serde_json::to_value(it).unwrap_or_default());
        entries.into_iter().map(entry).collect()
    };
    without_zeros(json!({
        "ioServiceBytesRecursive": entries(io.bytes),
        "ioServicedRecursive": entries(io.operations),
        "psi": psi(stats.pressure.io.as_ref()),
    }))
}

/// Its totals are microseconds, as the kernel's.
fn psi(pressure: Option<&Pressure>) -> Option<Value> {
    let share = |share: &Share| {
        json!({
            "avg10": share.avg10,
            "avg60": share.avg60,
            "avg300": share.avg300,
            "total": share.total / 1000,
        })
    };
    pressure.map(|pressure| json!({"some": share(&pressure.some), "full": share(&pressure.full)}))
}

fn interface(interface: &Interface) -> Value {
    json!({
        "Name": interface.name,
        "RxBytes": interface.rx_bytes,
        "RxPackets": interface.rx_packets,
        "RxErrors": interface.rx_errors,
        "RxDropped": interface.rx_dropped,
        "TxBytes": interface.tx_bytes,
        "TxPackets": interface.tx_packets,
        "TxErrors": interface.tx_errors,
        "TxDropped": interface.tx_dropped,
    })
}
