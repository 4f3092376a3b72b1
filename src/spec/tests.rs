use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{Host, Warning, check, default_spec_for, parse, parse_with_warnings, sysctl_path};
use crate::{Error, Kind};

const HOST: Host = Host { uid: 1000, gid: 1001, unified_cgroups: false };

/// The default config with changes: JSON pointer and value, where `null` removes.
fn config(changes: &[(&str, Value)]) -> Value {
    let mut config = default_spec_for(false, HOST);
    for (pointer, value) in changes {
        set(&mut config, pointer, value.clone());
    }
    config
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer starts with a slash");
    if config.pointer(parent).is_none() {
        set(config, parent, json!({}));
    }
    match config.pointer_mut(parent) {
        Some(Value::Object(members)) if value.is_null() => {
            members.shift_remove(key);
        }
        Some(Value::Object(members)) => {
            members.insert(key.replace("~1", "/"), value);
        }
        Some(Value::Array(items)) if key == "-" => items.push(value),
        Some(Value::Array(items)) => items[key.parse::<usize>().expect("an index")] = value,
        other => panic!("{pointer} is in {other:?}"),
    }
}

fn checked(changes: &[(&str, Value)]) -> crate::Result<(Spec, Vec<Warning>)> {
    check(config(changes).to_string().as_bytes())
}

fn refused(changes: &[(&str, Value)]) -> Error {
    checked(changes).expect_err(&format!("{changes:?} is accepted"))
}

/// Path and message of the error that a change provokes.
#[track_caller]
fn refuses(changes: &[(&str, Value)], path: &str, message: &str) {
    let error = refused(changes);
    assert_eq!(error.kind(), Kind::Spec);
    let property = error.property().expect("a spec error names its property");
    assert_eq!(property.path, path, "{error}");
    assert!(error.to_string().contains(message), "{error}");
    assert!(property.section.as_deref().is_some_and(|section| section.contains(".md")), "{error}");
}

#[track_caller]
fn warns(changes: &[(&str, Value)], path: &str, message: &str) {
    let (_, warnings) = checked(changes).expect("only a warning");
    let warning = warnings.iter().find(|warning| warning.path == path);
    assert!(warning.is_some_and(|warning| warning.message.contains(message)), "{warnings:?}");
}

#[track_caller]
fn accepts(changes: &[(&str, Value)]) {
    let (_, warnings) = checked(changes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(warnings, []);
}

#[test]
fn accepts_its_own_defaults() {
    for unified_cgroups in [false, true] {
        for rootless in [false, true] {
            let host = Host { unified_cgroups, ..HOST };
            let config = default_spec_for(rootless, host).to_string();
            let (_, warnings) = check(config.as_bytes()).expect("the default is valid");
            assert_eq!(warnings, []);
        }
    }
}

#[test]
fn accepts_a_config_of_a_release_candidate() {
    let config = include_bytes!("../../tests/bundles/busybox/config.json");
    let (_, warnings) = check(config).expect("the walkthrough's config is valid");
    assert_eq!(warnings, []);
}

#[test]
fn writes_keys_in_order() {
    let config = default_spec_for(true, HOST);
    let keys: Vec<&String> = config.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["ociVersion", "process", "root", "hostname", "mounts", "linux"]);
    let mapping = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    assert_eq!(config["linux"]["uidMappings"], mapping);
    assert_eq!(config["linux"]["gidMappings"][0]["hostID"], 1001);
    let kinds: Vec<&Value> = config["linux"]["namespaces"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|namespace| &namespace["type"])
        .collect();
    assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "user"]);
}

#[test]
fn says_where_json_breaks() {
    let cases: [(&[u8], &str); 10] = [
        (b"{\"ociVersion\":\n \"1.0", "cut off at line 2 column 5"),
        (b"{\"root\": {\"path\": \"x\"}", "cut off at line 1 column 22"),
        (b"{\"root\": nope}", "not JSON at line 1 column 11: expected ident"),
        (b"{} {}", "not JSON at line 1 column 4: trailing characters"),
        (b"", "the config is empty"),
        (b" \n", "the config is empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\0", "UTF-16"),
        (b"{\n\"a\": \"\xff\"}", "not UTF-8 at line 2 column 7"),
        (b"[]", "$ = []: must be an object"),
    ];
    for (json, message) in cases {
        let error = parse(json).expect_err("not a config").to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn refuses_absurd_sizes() {
    let large = vec![b' '; super::MAX_SIZE + 1];
    assert!(parse(&large).expect_err("too large").to_string().contains("16777216"));
    // What is unknown is skipped, not built, so only a detour over a tree can be too deep.
    let deep =
        format!("{{\"root\": null, \"x\": {0}1{1}}}", "[".repeat(500_000), "]".repeat(500_000));
    assert!(parse(deep.as_bytes()).is_ok());
    let deep = deep.replace("null", "1");
    let error = parse(deep.as_bytes()).expect_err("too deep").to_string();
    assert!(error.contains("nested too deeply"), "{error}");
}

#[test]
fn names_path_value_and_section_of_a_wrong_type() {
    let error = refused(&[("/process/args", json!(["sh", 7]))]);
    assert_eq!(
        error.to_string(),
        "$.process.args[1] = 7: must be a string (see config.md#process)"
    );
    refuses(&[("/process/args", json!("sh"))], "$.process.args", "must be an array");
    refuses(&[("/process/user/uid", json!(-1))], "$.process.user.uid", "from 0 to 4294967295");
    refuses(&[("/process/user/uid", json!("0"))], "$.process.user.uid", "from 0 to 4294967295");
    refuses(&[("/process/terminal", json!(1))], "$.process.terminal", "true or false");
    refuses(&[("/root/path", json!(1))], "$.root.path", "must be a string");
    refuses(&[("/annotations", json!({"a.b": 1}))], "$.annotations[\"a.b\"]", "must be a string");
    refuses(&[("/mounts/0", json!({"source": "x"}))], "$.mounts[0].destination", "is missing");
    refuses(&[("/process/cwd", json!(null))], "$.process.cwd", "is missing");
    let path = "$.linux.namespaces[0].type";
    refuses(&[("/linux/namespaces/0/type", json!("pdi"))], path, "did you mean \"pid\"?");
    refuses(&[("/process/rlimits/0/type", json!("NOFILE"))], "$.process.rlimits[0].type", "one of");
}

#[test]
fn takes_objects_from_objects_only() {
    refuses(&[("/process/user", json!([0, 0]))], "$.process.user", "must be an object");
    refuses(&[("/root", json!([]))], "$.root", "must be an object");
    refuses(&[("/linux/resources/memory", json!([5]))], "$.linux.resources.memory", "an object");
    refuses(&[("/mounts/0", json!(["/proc"]))], "$.mounts[0]", "must be an object");
}

#[test]
fn refuses_a_property_that_is_there_twice() {
    let json = br#"{"ociVersion": "1.0.0", "root": {"path": "a", "path": "b"}}"#;
    let error = parse(json).expect_err("ambiguous").to_string();
    assert!(error.starts_with("$.root.path: the property is there twice"), "{error}");
}

#[test]
fn null_counts_as_absent() {
    let json = json!({
        "ociVersion": "1.0.0", "hostname": null, "root": {"path": "r", "readonly": null},
        "process": {"args": ["sh"], "cwd": "/", "user": null, "env": null, "rlimits": null},
        "mounts": null, "hooks": null, "annotations": null, "windows": {"layerFolders": 1},
        "linux": {
            "namespaces": null, "cgroupsPath": null,
            "resources": {"pids": {"limit": null}, "devices": [{"access": "r", "allow": null}]},
        },
    });
    let (spec, warnings) = check(json.to_string().as_bytes()).expect("null is absent");
    assert_eq!(warnings, []);
    assert_eq!(spec.process().as_ref().map(|process| process.user().uid()), Some(0));
}

#[test]
fn unknown_capabilities_are_left_out_with_a_warning() {
    let json = config(&[("/process/capabilities/bounding", json!(["CAP_KILL", "CAP_SYS_ADMN"]))]);
    let (spec, warnings) = parse_with_warnings(json.to_string().as_bytes()).expect("a warning");
    let process = spec.process().as_ref().expect("a process");
    let sets = process.capabilities().as_ref().expect("capabilities");
    assert_eq!(sets.bounding().as_ref().map(std::collections::HashSet::len), Some(1));
    assert_eq!(warnings[0].path, "$.process.capabilities.bounding[1]");
    assert!(warnings[0].message.contains("did you mean \"CAP_SYS_ADMIN\"?"), "{warnings:?}");
    // What was left out is the reason for what is wrong now.
    let error = refused(&[
        ("/process/capabilities/bounding", json!(["CAP_X"])),
        ("/process/capabilities/inheritable", json!(["CAP_KILL"])),
    ]);
    let reason = "ignoring unknown or unavailable capabilities: [CAP_X]";
    assert!(error.to_string().contains(reason), "{error}");
    // A wrong type among unknown names still is an error, at the place it was written.
    let names = json!(["CAP_X", 3]);
    refuses(
        &[("/process/capabilities/bounding", names)],
        "$.process.capabilities.bounding[1]",
        "must be a string",
    );
    // A set that the specification does not know is a property like any other that it does not.
    checked(&[
        ("/process/capabilities/", json!([3])),
        ("/process/capabilities/bounding", json!(["CAP_X"])),
    ])
    .expect("ignored");
}

#[test]
fn errors_do_not_steer_the_terminal() {
    let error = refused(&[("/linux/namespaces/0/type", json!("\u{9b}2J\u{7f}\n"))]);
    assert!(error.to_string().contains(r#""\u009b2J\u007f\n""#), "{error}");
    // Nor do warnings, which an error tells of that may come of them.
    let names = json!(["CAP_\u{9b}2J"]);
    let change = [("/process/capabilities/bounding", names)];
    warns(&change, "$.process.capabilities.bounding[0]", r"[CAP_\u009b2J]");
}

#[test]
fn takes_what_only_the_types_refuse() {
    accepts(&[
        ("/process/user", json!(null)),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]}),
        ),
        ("/process/execCPUAffinity", json!({"initial": "", "final": "0-3"})),
        ("/linux/resources/devices/0/type", json!("")),
        ("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": u64::MAX}])),
        ("/uidMappings", json!("unknown at this level")),
        ("/unknown", json!({"deep": [1, {"er": null}]})),
    ]);
}

#[test]
fn takes_what_has_no_meaning_here() {
    accepts(&[
        ("/process/commandLine", json!("program")),
        ("/process/user/username", json!("administrator")),
        ("/linux/resources/memory", json!({"checkBeforeUpdate": true})),
        ("/linux/intelRdt", json!({"enableCMT": true, "enableMBM": false})),
    ]);
}

#[test]
fn checks_the_version() {
    for version in ["1.0.0", "1.0.0-rc1", "1.0.2-dev", "1.3.0", "1.1.0+build"] {
        accepts(&[("/ociVersion", json!(version))]);
    }
    warns(&[("/ociVersion", json!("1.9.0"))], "$.ociVersion", "newer than 1.3");
    refuses(&[("/ociVersion", json!("2.0.0"))], "$.ociVersion", "version 1");
    refuses(&[("/ociVersion", json!("0.9.0"))], "$.ociVersion", "version 1");
    refuses(&[("/ociVersion", json!("1.0"))], "$.ociVersion", "SemVer");
    refuses(&[("/ociVersion", json!(null))], "$.ociVersion", "missing");
}

#[test]
fn checks_root_and_names() {
    refuses(&[("/root", json!(null))], "$.root", "missing");
    refuses(&[("/root/path", json!(""))], "$.root.path", "missing");
    refuses(&[("/root/path", json!("a\0b"))], "$.root.path", "NUL");
    refuses(&[("/hostname", json!("h".repeat(65)))], "$.hostname", "64");
    accepts(&[("/hostname", json!("h".repeat(64)))]);
    let without_uts = ("/linux/namespaces", json!([{"type": "mount"}]));
    refuses(std::slice::from_ref(&without_uts), "$.hostname", "uts namespace");
    let changes = [without_uts, ("/hostname", json!("")), ("/domainname", json!("d"))];
    refuses(&changes, "$.domainname", "uts namespace");
}

#[test]
fn checks_the_program() {
    accepts(&[("/process", json!(null))]);
    refuses(&[("/process/cwd", json!("tmp"))], "$.process.cwd", "absolute");
    refuses(&[("/process/args", json!([]))], "$.process.args", "at least one");
    refuses(&[("/process/args", json!(null))], "$.process.args", "missing");
    refuses(&[("/process/args", json!(["sh", "\0"]))], "$.process.args[1]", "NUL");
    refuses(&[("/process/env", json!(["A=b", "B"]))], "$.process.env[1]", "NAME=value");
    refuses(&[("/process/env", json!(["=b"]))], "$.process.env[0]", "name before");
    accepts(&[("/process/env", json!(["A=b", "A="]))]);
    let size = ("/process/consoleSize", json!({"height": 70000, "width": 80}));
    refuses(std::slice::from_ref(&size), "$.process.consoleSize.height", "65535");
    accepts(&[size, ("/process/terminal", json!(false))]);
}

#[test]
fn checks_limits_and_priorities() {
    let limit = json!({"type": "RLIMIT_NOFILE", "hard": 10, "soft": 20});
    refuses(&[("/process/rlimits", json!([limit]))], "$.process.rlimits[0].soft", "hard limit, 10");
    let limit = json!({"type": "RLIMIT_CORE", "hard": 10, "soft": 10});
    refuses(&[("/process/rlimits", json!([limit, limit]))], "$.process.rlimits[1].type", "twice");
    refuses(&[("/process/oomScoreAdj", json!(-1001))], "$.process.oomScoreAdj", "-1000");
    let io = json!({"class": "IOPRIO_CLASS_BE", "priority": 8});
    refuses(&[("/process/ioPriority", io)], "$.process.ioPriority.priority", "7");
    let other = json!({"policy": "SCHED_OTHER", "priority": 5});
    refuses(&[("/process/scheduler", other)], "$.process.scheduler.priority", "SCHED_FIFO");
    let other = json!({"policy": "SCHED_OTHER", "runtime": 5});
    refuses(&[("/process/scheduler", other)], "$.process.scheduler.runtime", "SCHED_DEADLINE");
    let other = json!({"policy": "SCHED_OTHER", "nice": 20});
    refuses(&[("/process/scheduler", other)], "$.process.scheduler.nice", "-20");
    let sets = json!({"permitted": ["CAP_KILL"], "effective": ["CAP_CHOWN", "CAP_KILL"]});
    refuses(&[("/process/capabilities", sets)], "$.process.capabilities.effective", "EPERM");
    let sets = json!({"permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"]});
    refuses(&[("/process/capabilities", sets)], "$.process.capabilities.inheritable", "bounding");
    let sets = json!({"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    accepts(&[("/process/capabilities", sets)]);
}

#[test]
fn checks_namespaces() {
    let twice = json!([{"type": "uts"}, {"type": "pid"}, {"type": "uts"}]);
    refuses(&[("/linux/namespaces", twice)], "$.linux.namespaces[2].type", "twice");
    let relative = ("/linux/namespaces/0/path", json!("proc/1/ns/pid"));
    refuses(&[relative], "$.linux.namespaces[0].path", "absolute");
    let without = [("/linux/namespaces", json!([])), ("/hostname", json!(null))];
    accepts(&without);
    let offsets = ("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}));
    refuses(std::slice::from_ref(&offsets), "$.linux.timeOffsets", "time namespace");
    let time = ("/linux/namespaces/-", json!({"type": "time"}));
    accepts(&[offsets, time.clone()]);
    let offsets = ("/linux/timeOffsets", json!({"realtime": {"secs": 1}}));
    refuses(&[offsets, time], "$.linux.timeOffsets.realtime", "boottime or monotonic");
    let devices = ("/linux/netDevices", json!({"eth0": {"name": "a/b"}}));
    refuses(&[devices], "$.linux.netDevices.eth0.name", "device's name");
    let devices = |devices: Value| [("/linux/netDevices", devices)];
    let two = devices(json!({"veth0": {"name": "eth0"}, "veth1": {"name": "eth0"}}));
    refuses(&two, "$.linux.netDevices.veth1.name", "another device's");
    let two = devices(json!({"eth0": {}, "veth1": {"name": "eth0"}}));
    refuses(&two, "$.linux.netDevices.veth1.name", "another device's");
    accepts(&devices(json!({"veth0": {"name": "eth%d"}, "veth1": {"name": "eth%d"}})));
    for template in ["eth%", "eth%d%d", "eth%s"] {
        let named = devices(json!({"veth0": {"name": template}}));
        refuses(&named, "$.linux.netDevices.veth0.name", "percent");
    }
    refuses(
        &devices(json!({"sixteen-bytes-xx": {}})),
        "$.linux.netDevices[\"sixteen-bytes-xx\"]",
        "key",
    );
}

#[test]
fn checks_id_mappings() {
    let range = |container: u32, host: u32, size: u32| json!({"containerID": container, "hostID": host, "size": size});
    let user = ("/linux/namespaces/-", json!({"type": "user"}));
    let gids = ("/linux/gidMappings", json!([range(0, 100, 10)]));
    let uids = |ranges: Value| ("/linux/uidMappings", ranges);
    refuses(std::slice::from_ref(&gids), "$.linux.gidMappings", "user namespace");
    refuses(std::slice::from_ref(&user), "$.linux.namespaces", "uidMappings");
    let cases = [
        (json!([range(0, 0, 0)]), "[0].size", "greater than zero"),
        (json!([range(0, 0, 10), range(9, 10, 1)]), "[1]", "overlap an earlier range of container"),
        (json!([range(0, 0, 10), range(10, 9, 1)]), "[1]", "overlap an earlier range of host"),
        (json!([range(0, u32::MAX, 2)]), "[0]", "beyond"),
    ];
    for (ranges, place, message) in cases {
        let changes = [user.clone(), gids.clone(), uids(ranges)];
        refuses(&changes, &format!("$.linux.uidMappings{place}"), message);
    }
    let changes = [user, gids, uids(json!([range(0, 0, 10)]))];
    accepts(&changes);
    let outside = [&changes[..], &[("/process/user/uid", json!(10))]].concat();
    refuses(&outside, "$.process.user.uid", "does not exist in the user namespace");
    let outside = [&changes[..], &[("/process/user/additionalGids", json!([1, 10]))]].concat();
    refuses(&outside, "$.process.user.additionalGids[1]", "does not exist");
}

#[test]
fn checks_mounts() {
    let mount = |mount: Value| [("/mounts", json!([mount]))];
    refuses(&mount(json!({"destination": ""})), "$.mounts[0].destination", "missing");
    let relative = mount(json!({"destination": "proc", "type": "proc"}));
    warns(&relative, "$.mounts[0].destination", "relative");
    let nul = mount(json!({"destination": "/a", "options": ["ro", "\0"]}));
    refuses(&nul, "$.mounts[0].options[1]", "NUL");
    let sourceless = mount(json!({"destination": "/a", "options": ["bind"]}));
    refuses(&sourceless, "$.mounts[0].source", "missing");
    let ids = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    let alone = mount(json!({"destination": "/a", "uidMappings": ids}));
    refuses(&alone, "$.mounts[0].uidMappings", "gidMappings");
    let bind = json!({"destination": "/a", "source": "/b", "options": ["bind", "idmap"]});
    refuses(&mount(bind), "$.mounts[0].options", "user namespace");
    let mapped = |options: &[&str]| {
        mount(json!({"destination": "/a", "source": "/b", "options": options, "uidMappings": ids,
            "gidMappings": ids}))
    };
    accepts(&mapped(&["rbind", "ridmap"]));
    warns(&mapped(&["rbind"]), "$.mounts[0].uidMappings", "older runtimes");
    let remount = mapped(&["rbind", "idmap", "remount"]);
    refuses(&remount, "$.mounts[0].options", "cannot be mapped any more");
}

#[test]
fn checks_hooks_and_annotations() {
    let hook = |hook: Value| [("/hooks/poststop", json!([hook]))];
    refuses(&hook(json!({"path": "bin/true"})), "$.hooks.poststop[0].path", "absolute");
    let hooked = hook(json!({"path": "/bin/true", "timeout": 0}));
    refuses(&hooked, "$.hooks.poststop[0].timeout", "greater than zero");
    accepts(&hook(json!({"path": "/bin/true", "timeout": 1})));
    refuses(&[("/annotations", json!({"": "x"}))], "$.annotations[\"\"]", "not be empty");
}

#[test]
fn checks_paths_and_devices() {
    refuses(&[("/linux/maskedPaths/0", json!(""))], "$.linux.maskedPaths[0]", "absolute");
    refuses(&[("/linux/readonlyPaths/0", json!(""))], "$.linux.readonlyPaths[0]", "absolute");
    refuses(&[("/linux/cgroupsPath", json!("/a/../../b"))], "$.linux.cgroupsPath", "..");
    accepts(&[("/linux/cgroupsPath", json!("system.slice:rsc:a..b"))]);
    refuses(&[("/linux/rootfsPropagation", json!("x"))], "$.linux.rootfsPropagation", "rprivate");
    let device = |device: Value| [("/linux/devices", json!([device]))];
    let all = device(json!({"path": "/dev/x", "type": "a"}));
    refuses(&all, "$.linux.devices[0].type", "must be c, b, u or p");
    let negative = device(json!({"path": "/dev/x", "type": "c", "major": -1}));
    refuses(&negative, "$.linux.devices[0].major", "4095");
    let relative = device(json!({"path": "dev/x", "type": "p"}));
    refuses(&relative, "$.linux.devices[0].path", "absolute");
    let fuse = |path: &str| json!({"path": path, "type": "c", "major": 10, "minor": 229});
    let twice = [("/linux/devices", json!([fuse("/dev/a"), fuse("/dev/b")]))];
    warns(&twice, "$.linux.devices[1]", "same device as /dev/a");
}

#[test]
fn checks_resources() {
    let cases = [
        ("memory", json!({"limit": -2}), ".limit", "-1 for unlimited"),
        ("memory", json!({"limit": 10, "swap": 9}), ".swap", "at least the limit"),
        ("memory", json!({"swappiness": 101}), ".swappiness", "100"),
        ("cpu", json!({"quota": 10, "burst": 11}), ".burst", "quota, 10"),
        ("cpu", json!({"cpus": "a"}), ".cpus", "0-3,7"),
        ("cpu", json!({"idle": 2}), ".idle", "0 or 1"),
        ("blockIO", json!({"weight": 9}), ".weight", "between 10 and 1000"),
        (
            "blockIO",
            json!({"weightDevice": [{"major": 8, "minor": 0}]}),
            ".weightDevice[0]",
            "weight",
        ),
        ("hugepageLimits", json!([{"pageSize": "2mb", "limit": 1}]), "[0].pageSize", "64KB"),
        ("unified", json!({"../x.y": "1"}), "[\"../x.y\"]", "memory.high"),
        ("rdma", json!({"mlx5": {}}), ".mlx5", "hcaHandles"),
        ("devices", json!([{"allow": true, "access": "x"}]), "[0].access", "(mknod)"),
        ("devices", json!([{"allow": true}]), "[0].access", "missing"),
        ("devices", json!([{"access": "r", "type": "p"}]), "[0].type", "a, b or c"),
    ];
    for (part, value, place, message) in cases {
        let path = format!("$.linux.resources.{part}{place}");
        refuses(&[(&format!("/linux/resources/{part}"), value)], &path, message);
    }
    accepts(&[("/linux/resources/memory", json!({"limit": -1, "swap": 0, "reservation": 5}))]);
    // Nothing can turn it off, and to ask for what is so anyway is no reason to say anything.
    let at = "/linux/resources/memory";
    warns(&[(at, json!({"useHierarchy": false}))], "$.linux.resources.memory.useHierarchy", "5.11");
    accepts(&[(at, json!({"useHierarchy": true}))]);
}

#[test]
fn checks_sysctls() {
    for name in ["net.core.somaxconn", "net/ipv4/conf/eth0.1/mtu", "kernel.msgmax", "fs.mqueue.x"] {
        accepts(&[("/linux/sysctl", json!({name: "1"}))]);
    }
    let cases = [
        ("kernel.core_pattern", "would change the host"),
        ("kernel.hostname", "set $.hostname"),
        ("net/../kernel/core_pattern", "must be the name"),
        ("net..x", "must be the name"),
        ("user.max_user_namespaces", "\"user\""),
    ];
    for (name, message) in cases {
        let error = refused(&[("/linux/sysctl", json!({name: "1"}))]).to_string();
        assert!(error.contains(message), "{error}");
    }
    let namespaces = ("/linux/namespaces", json!([{"type": "mount"}, {"type": "uts"}]));
    let sysctl = ("/linux/sysctl", json!({"net.core.somaxconn": "1"}));
    let path = "$.linux.sysctl[\"net.core.somaxconn\"]";
    refuses(&[namespaces, sysctl], path, "belongs to a namespace that is the host's");
    assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.mtu"), "net/ipv4/conf/eth0.1/mtu");
    assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/mtu"), "net/ipv4/conf/eth0.1/mtu");
}

#[test]
fn checks_seccomp() {
    let filter = |filter: Value| [("/linux/seccomp", filter)];
    let rule = |rule: Value| filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
    let empty = rule(json!({"names": [], "action": "SCMP_ACT_ALLOW"}));
    refuses(&empty, "$.linux.seccomp.syscalls[0].names", "empty");
    let errno = rule(json!({"names": ["x"], "action": "SCMP_ACT_KILL", "errnoRet": 1}));
    refuses(&errno, "$.linux.seccomp.syscalls[0].errnoRet", "no errno");
    let notify = rule(json!({"names": ["x"], "action": "SCMP_ACT_NOTIFY"}));
    refuses(&notify, "$.linux.seccomp.syscalls[0].action", "listenerPath");
    let argument = json!([{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]);
    let indexed = rule(json!({"names": ["x"], "action": "SCMP_ACT_ALLOW", "args": argument}));
    refuses(&indexed, "$.linux.seccomp.syscalls[0].args[0].index", "0 and 5");
    let default = filter(json!({"defaultAction": "SCMP_ACT_NOTIFY"}));
    refuses(&default, "$.linux.seccomp.defaultAction", "default");
    let metadata = filter(json!({"defaultAction": "SCMP_ACT_LOG", "listenerMetadata": "x"}));
    refuses(&metadata, "$.linux.seccomp.listenerMetadata", "listenerPath");
}

#[test]
fn checks_rdt_and_memory_policy() {
    let policy = |policy: Value| [("/linux/memoryPolicy", policy)];
    let path = "$.linux.memoryPolicy.nodes";
    refuses(&policy(json!({"mode": "MPOL_BIND"})), path, "must not be empty");
    refuses(&policy(json!({"mode": "MPOL_LOCAL", "nodes": "0"})), path, "must be empty");
    accepts(&policy(json!({"mode": "MPOL_PREFERRED", "nodes": "0-1"})));
    let rdt = |rdt: Value| [("/linux/intelRdt", rdt)];
    refuses(&rdt(json!({"closID": "a/b"})), "$.linux.intelRdt.closID", "folder");
    accepts(&rdt(json!({"closID": "/"})));
    refuses(&rdt(json!({"memBwSchema": "L3:0=f"})), "$.linux.intelRdt.memBwSchema", "MB:");
}
