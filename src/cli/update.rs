//! `update`: options or a file as a change to `linux.resources`.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::args::Update;
use crate::container::{self, Change, Shares};
use crate::error::{Error, Kind, Result};
use crate::interrupt::never;
use crate::spec;
use crate::state::Root;

pub(super) fn update(root: &Root, asked: Update) -> Result<()> {
    let change = match &asked.resources {
        Some(file) => Change { resources: read(file)?, ..Change::default() },
        None => Change {
            resources: resources(&asked)?,
            shares: Shares {
                l3_cache_schema: asked.l3_cache_schema,
                mem_bw_schema: asked.mem_bw_schema,
            },
        },
    };
    container::update(root, &asked.id, change, &crate::warn, &mut never)
}

fn read(file: &Path) -> Result<Value> {
    let mut text = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().lock().read_to_end(&mut text),
        _ => std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text)),
    };
    read.map_err(|error| Error::io("read", file, &error))?;
    serde_json::from_slice(&text).map_err(|error| {
        let what = format!("the resources in {:?} are not JSON: {error}", file.display());
        Error::new(Kind::Spec, what).hint("it is what linux.resources has in a config.json")
    })
}

/// What is not given is null, which counts as absent.
fn resources(asked: &Update) -> Result<Value> {
    let bytes = |option: &str, text: &Option<String>| {
        text.as_deref().map(|text| spec::bytes(option, text)).transpose()
    };
    Ok(json!({
        "memory": {
            "limit": bytes("--memory", &asked.memory)?,
            "reservation": bytes("--memory-reservation", &asked.memory_reservation)?,
            "swap": bytes("--memory-swap", &asked.memory_swap)?,
            "kernel": bytes("--kernel-memory", &asked.kernel_memory)?,
            "kernelTCP": bytes("--kernel-memory-tcp", &asked.kernel_memory_tcp)?,
        },
        "cpu": {
            "shares": asked.cpu_share,
            "quota": asked.cpu_quota,
            "burst": asked.cpu_burst,
            "period": asked.cpu_period,
            "realtimeRuntime": asked.cpu_rt_runtime,
            "realtimePeriod": asked.cpu_rt_period,
            "cpus": asked.cpuset_cpus,
            "mems": asked.cpuset_mems,
            "idle": asked.cpu_idle,
        },
        "blockIO": {"weight": asked.blkio_weight},
        "pids": asked.pids_limit.map(|limit| json!({"limit": limit})),
    }))
}
