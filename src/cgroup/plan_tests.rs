#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::super::hierarchies::tests::{hybrid, nested, unified};
use super::super::v1;
use super::*;

fn planned(hierarchies: &Hierarchies, path: Option<&str>, resources: Value) -> Result<CgroupPlan> {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    plan(hierarchies, Asked { resources: Some(&resources), ..asked(path, false) })
}

fn asked(path: Option<&str>, rootless: bool) -> Asked<'_> {
    let path = path.map(Path::new);
    Asked { path, id: "box", resources: None, owner: None, devices_default: true, rootless }
}

fn lines(hierarchies: &Hierarchies, path: Option<&str>, resources: Value) -> Vec<String> {
    planned(hierarchies, path, resources).unwrap().lines()
}

/// The writes alone, as `file value`.
fn writes(hierarchies: &Hierarchies, resources: Value) -> Vec<String> {
    let plan = planned(hierarchies, None, resources).unwrap();
    let writes = plan.groups.iter().flat_map(|group| &group.writes);
    writes.map(|write| format!("{} {}", write.file, write.value)).collect()
}

#[test]
fn below_the_own_cgroup_in_version_1() {
    assert_eq!(
        lines(&hybrid(), None, json!({"pids": {"limit": 10}})),
        [
            r#"make cgroup "/sys/fs/cgroup/cpu/box""#,
            r#"make cgroup "/sys/fs/cgroup/cpuset/box""#,
            r#"make cgroup "/sys/fs/cgroup/devices/box""#,
            r#"make cgroup "/sys/fs/cgroup/freezer/box""#,
            r#"make cgroup "/sys/fs/cgroup/hugetlb/box""#,
            r#"make cgroup "/sys/fs/cgroup/memory/agent/88e3/box""#,
            r#"make cgroup "/sys/fs/cgroup/pids/box""#,
            r#"write "10" to "/sys/fs/cgroup/pids/box/pids.max""#,
            r#"make cgroup "/sys/fs/cgroup/systemd/box""#,
            r#"make cgroup "/sys/fs/cgroup/unified/box""#,
        ]
    );
    assert_eq!(
        lines(&nested(), None, json!({}))[0],
        r#"make cgroup "/sys/fs/cgroup/cpu,cpuacct/inner/box""#
    );
}

#[test]
fn beside_the_own_cgroup_in_version_2() {
    let parent = "/sys/fs/cgroup/user.slice/user-1000.slice";
    assert_eq!(lines(&unified(), None, json!({})), [format!("make cgroup \"{parent}/box\"")]);
    assert_eq!(
        lines(&unified(), Some("a/b"), json!({})),
        [format!("make cgroup \"{parent}/a/b\"")]
    );
    assert_eq!(lines(&unified(), Some("/a/b"), json!({})), [r#"make cgroup "/sys/fs/cgroup/a/b""#]);
}

#[test]
fn dots_never_lead_out() {
    let below = |path| planned(&hybrid(), Some(path), json!({})).unwrap().groups[5].path.clone();
    assert_eq!(below("/../../etc/../x"), Path::new("x"));
    assert_eq!(below("../../x"), Path::new("agent/88e3/x"));
    for path in ["/", "..", "/a/..", ""] {
        let error = planned(&hybrid(), Some(path), json!({})).unwrap_err();
        assert_eq!(error.property().unwrap().path, "$.linux.cgroupsPath");
    }
}

#[test]
fn systemd_makes_a_scope_and_keeps_its_limits() {
    let limits = json!({
        "memory": {"limit": 1048576},
        "cpu": {"quota": 5000, "shares": 1024},
        "devices": [{"allow": false}],
    });
    let [order, made, ..] = &lines(&unified(), Some("m.slice:rsc:1"), limits.clone())[..] else {
        panic!("no plan")
    };
    assert_eq!(
        order,
        "ask systemd for \"rsc-1.scope\" (Description=\"container box\", Slice=\"m.slice\", \
         Delegate=true, DefaultDependencies=false, CollectMode=\"inactive-or-failed\", \
         CPUAccounting=true, MemoryAccounting=true, IOAccounting=true, TasksAccounting=true, \
         MemoryMax=1048576, CPUWeight=100, CPUQuotaPeriodUSec=100000, CPUQuotaPerSecUSec=50000)"
    );
    assert_eq!(made, r#"make cgroup "/sys/fs/cgroup/m.slice/rsc-1.scope""#);
    // There a file has the devices, and systemd would open it to all of them.
    let legacy = lines(&hybrid(), Some("m.slice:rsc:1"), limits);
    assert!(legacy[0].contains("DevicePolicy=\"strict\", DeviceAllow=[char-* m, block-* m, "));
    assert!(legacy[0].contains("/dev/char/1:3 rwm"), "{}", legacy[0]);
    assert!(legacy[0].contains("char-136 rwm"), "{}", legacy[0]);
}

#[test]
fn an_ordinary_users_scope_is_below_the_own_manager() {
    let path = Some("user.slice:rsc:1");
    let error = plan(&unified(), asked(path, true)).unwrap_err();
    assert!(error.to_string().contains("systemd-run --user"), "{error}");
    let manager = "user.slice/user-5.slice/user@5.service";
    let hierarchies = Hierarchies::parse(
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        &format!("0::/{manager}/app.slice/shell.scope\n"),
    );
    let lines = plan(&hierarchies, asked(path, true)).unwrap().lines();
    assert!(lines[0].starts_with("ask systemd of this user for \"rsc-1.scope\" "), "{}", lines[0]);
    let made = format!(r#"make cgroup "/sys/fs/cgroup/{manager}/user.slice/rsc-1.scope""#);
    assert_eq!(lines[1], made);
}

#[test]
fn devices_of_version_1() {
    let resources = json!({"devices": [{"allow": false, "access": "rwm"}]});
    let expected = [
        "devices.deny a",
        "devices.allow c *:* m",
        "devices.allow b *:* m",
        "devices.allow c 1:3 rwm",
        "devices.allow c 1:5 rwm",
        "devices.allow c 1:7 rwm",
        "devices.allow c 1:8 rwm",
        "devices.allow c 1:9 rwm",
        "devices.allow c 5:0 rwm",
        "devices.allow c 5:2 rwm",
        "devices.allow c 136:* rwm",
    ];
    assert_eq!(writes(&hybrid(), resources.clone()), expected);
    let attached = lines(&unified(), Some("/a"), resources);
    assert!(
        attached[1].starts_with(
            "attach a device program to \"/sys/fs/cgroup/a\": deny all; allow c *:* m;"
        )
    );
}

#[test]
fn memory() {
    let asked =
        json!({"memory": {"limit": 1000, "swap": 3000, "reservation": 500, "swappiness": 0}});
    let expected = [
        "memory.limit_in_bytes 1000",
        "memory.memsw.limit_in_bytes 3000",
        "memory.soft_limit_in_bytes 500",
        "memory.swappiness 0",
    ];
    assert_eq!(writes(&hybrid(), asked), expected);
    let asked = json!({"memory": {"limit": 1000, "swap": 3000, "reservation": 500}});
    assert_eq!(
        writes(&unified(), asked),
        ["memory.swap.max 2000", "memory.max 1000", "memory.low 500"]
    );
    let asked = json!({"memory": {"limit": -1, "disableOOMKiller": false}});
    assert_eq!(
        writes(&hybrid(), asked.clone()),
        ["memory.limit_in_bytes -1", "memory.memsw.limit_in_bytes -1", "memory.oom_control 0"]
    );
    assert_eq!(writes(&unified(), asked), ["memory.swap.max max", "memory.max max"]);
    let asked = json!({"memory": {"limit": 1000, "swap": 1000}});
    assert_eq!(writes(&unified(), asked), ["memory.swap.max 0", "memory.max 1000"]);
    for wrong in [
        json!({"swap": 10}),
        json!({"limit": 20, "swap": 10}),
        json!({"limit": -1, "swap": 10}),
        json!({"swappiness": 3}),
    ] {
        let error = planned(&unified(), None, json!({"memory": wrong})).unwrap_err();
        assert!(error.property().unwrap().path.starts_with("$.linux.resources.memory.swap"));
    }
}

#[test]
fn cpu() {
    let asked = json!({"cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 1000,
        "cpus": "0-1", "mems": "0", "idle": 0}});
    assert_eq!(
        writes(&hybrid(), asked.clone()),
        [
            "cpu.shares 512",
            "cpu.cfs_period_us 100000",
            "cpu.cfs_quota_us 50000",
            "cpu.cfs_burst_us 1000",
            "cpu.idle 0",
            "cpuset.cpus 0-1",
            "cpuset.mems 0",
        ]
    );
    assert_eq!(
        writes(&unified(), asked),
        [
            "cpu.weight 59",
            "cpu.idle 0",
            "cpu.max 50000 100000",
            "cpu.max.burst 1000",
            "cpuset.cpus 0-1",
            "cpuset.mems 0",
        ]
    );
    assert_eq!(writes(&unified(), json!({"cpu": {"quota": -1}})), ["cpu.max max 100000"]);
    assert_eq!(writes(&hybrid(), json!({"cpu": {"realtimeRuntime": 5}})), ["cpu.rt_runtime_us 5"]);
    assert!(planned(&unified(), None, json!({"cpu": {"realtimeRuntime": 5}})).is_err());
    assert!(planned(&hybrid(), None, json!({"cpu": {"shares": 1}})).is_err());
}

#[test]
fn the_other_controllers() {
    assert_eq!(writes(&hybrid(), json!({"pids": {"limit": -1}})), ["pids.max max"]);
    assert_eq!(writes(&unified(), json!({"pids": {"limit": 0}})), ["pids.max 1"]);
    assert_eq!(
        writes(&unified(), json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]})),
        ["hugetlb.2MB.max 4", "hugetlb.2MB.rsvd.max 4"]
    );
    let io = json!({"blockIO": {"weight": 10,
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]}});
    assert_eq!(writes(&unified(), io), ["io.bfq.weight 10", "io.max 8:0 rbps=600"]);
    let none = json!({"throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]});
    assert_eq!(writes(&unified(), json!({"blockIO": none})), ["io.max 8:0 wiops=max"]);
    let rdma = json!({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 9}}});
    assert_eq!(writes(&unified(), rdma), ["rdma.max mlx5_1 hca_handle=3 hca_object=9"]);
}

#[test]
fn block_devices_and_network() {
    let listed = |writes: Vec<Write>| -> Vec<String> {
        writes.iter().map(|write| format!("{} {}", write.file, write.value)).collect()
    };
    let rate = |rate| json!([{"major": 8, "minor": 0, "rate": rate}]);
    let io = json!({
        "leafWeight": 20,
        "weightDevice": [{"major": 8, "minor": 16, "weight": 30, "leafWeight": 40}],
        "throttleReadBpsDevice": rate(1),
        "throttleWriteBpsDevice": rate(2),
        "throttleReadIOPSDevice": rate(3),
        "throttleWriteIOPSDevice": rate(4),
    });
    let asked = serde_json::from_value(io.clone()).unwrap();
    assert_eq!(
        listed(v1::block_io(&asked).unwrap()),
        [
            "blkio.leaf_weight 20",
            "blkio.weight_device 8:16 30",
            "blkio.leaf_weight_device 8:16 40",
            "blkio.throttle.read_bps_device 8:0 1",
            "blkio.throttle.write_bps_device 8:0 2",
            "blkio.throttle.read_iops_device 8:0 3",
            "blkio.throttle.write_iops_device 8:0 4",
        ]
    );
    let error = planned(&unified(), None, json!({"blockIO": {"leafWeight": 20}})).unwrap_err();
    assert_eq!(error.property().unwrap().path, "$.linux.resources.blockIO.leafWeight");
    let devices = json!({"blockIO": {"weightDevice": io["weightDevice"]}});
    let error = planned(&unified(), None, devices).unwrap_err();
    let path = "$.linux.resources.blockIO.weightDevice[0].leafWeight";
    assert_eq!(error.property().unwrap().path, path);
    let network = json!({"classID": 5, "priorities": [{"name": "eth0", "priority": 3}]});
    let network = serde_json::from_value(network).unwrap();
    assert_eq!(listed(v1::net_cls(&network).unwrap()), ["net_cls.classid 5"]);
    assert_eq!(listed(v1::net_prio(&network).unwrap()), ["net_prio.ifpriomap eth0 3"]);
}

#[test]
fn unified_files() {
    let asked = json!({"unified": {"memory.high": "1G", "cgroup.max.depth": "3"}});
    assert_eq!(writes(&unified(), asked.clone()), ["cgroup.max.depth 3", "memory.high 1G"]);
    let lines = json!({"unified": {"io.max": "8:0 rbps=1\n8:16 wbps=2\n", "cpuset.cpus": ""}});
    assert_eq!(
        writes(&unified(), lines),
        ["cpuset.cpus ", "io.max 8:0 rbps=1", "io.max 8:16 wbps=2"]
    );
    let error = planned(&hybrid(), None, asked).unwrap_err();
    assert_eq!(error.property().unwrap().path, "$.linux.resources.unified[\"memory.high\"]");
    for wrong in ["../memory.max", "memory", ".x", "perf.x"] {
        assert!(planned(&unified(), None, json!({"unified": {wrong: ""}})).is_err(), "{wrong}");
    }
    assert!(planned(&nested(), None, json!({"unified": {"memory.high": "1"}})).is_err());
}

#[test]
fn a_controller_that_is_missing_is_named() {
    let error = planned(&hybrid(), None, json!({"network": {"classID": 1}})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no mounted cgroup hierarchy has the net_cls controller (asked for by \
         $.linux.resources.network.classID); mount the net_cls controller or drop \
         $.linux.resources.network.classID"
    );
    let denied = json!({"devices": [{"allow": false}]});
    assert!(
        planned(&nested(), None, denied).unwrap_err().to_string().contains("devices controller")
    );
    assert!(
        planned(
            &Hierarchies::default(),
            None,
            json!({"memory": {"disableOOMKiller": false}, "cpu": {}})
        )
        .unwrap()
        .is_empty()
    );
    assert!(planned(&Hierarchies::default(), None, json!({"pids": {"limit": 1}})).is_err());
}

#[test]
fn rootless_makes_no_cgroup_unless_asked() {
    let resources: LinuxResources =
        serde_json::from_value(json!({"devices": [{"allow": false}]})).unwrap();
    let of = |path: Option<&str>| {
        plan(&unified(), Asked { resources: Some(&resources), ..asked(path, true) }).unwrap()
    };
    assert!(of(None).is_empty());
    assert_eq!(of(Some("/a")).lines(), [r#"make cgroup "/sys/fs/cgroup/a""#]);
}

#[test]
fn version_2_is_handed_over_and_version_1_is_not() {
    let given = |hierarchies: &Hierarchies, rootless| {
        let asked = Asked { owner: Some(100_000), ..asked(Some("/a"), rootless) };
        let lines = plan(hierarchies, asked).unwrap().lines();
        lines.into_iter().filter(|line| line.starts_with("give")).collect::<Vec<_>>()
    };
    assert_eq!(given(&unified(), false), [r#"give "/sys/fs/cgroup/a" to user 100000"#]);
    assert_eq!(given(&unified(), true), [""; 0]);
    assert_eq!(given(&hybrid(), false), [""; 0]);
}

#[test]
fn rootless_uses_what_is_delegated_and_shows_the_rest() {
    let mut hierarchies = hybrid();
    hierarchies.delegate("pids");
    let plan = plan(&hierarchies, asked(None, true)).unwrap();
    let made: Vec<_> = plan.groups.iter().map(|group| &group.hierarchy.controllers).collect();
    assert_eq!(made, [&["pids"]]);
    let shown = plan.mount_points();
    assert_eq!(shown.hierarchies.len(), hierarchies.iter().count());
    let own = |point: &super::super::CgroupMount| point.directory.ends_with("box");
    assert_eq!(shown.hierarchies.iter().filter(|point| own(point)).count(), 1);
}

#[test]
fn kernel_memory_is_ignored_aloud() {
    let plan = planned(&hybrid(), None, json!({"memory": {"kernel": 5}})).unwrap();
    assert_eq!(plan.warnings().len(), 1);
    assert!(plan.groups.iter().all(|group| group.writes.is_empty()));
}

#[test]
fn what_a_cgroup_mount_shows() {
    let plan = planned(&nested(), None, json!({})).unwrap();
    let mounts = plan.mount_points();
    assert!(!mounts.unified_only);
    let links = [("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct")];
    assert_eq!(mounts.links, links.map(|(name, target)| (name.into(), target.into())));
    let shown: Vec<_> =
        mounts.hierarchies.iter().map(|one| (one.name.as_str(), one.options.as_str())).collect();
    let expected =
        [("cpu,cpuacct", "cpu,cpuacct"), ("memory", "memory"), ("systemd", "none,name=systemd")];
    assert_eq!(shown, expected);
    let plan = planned(&unified(), None, json!({})).unwrap();
    assert!(plan.mount_points().unified_only);
    assert_eq!(plan.unified_dir(), Some(plan.mount_points().hierarchies[0].directory.clone()));
}
