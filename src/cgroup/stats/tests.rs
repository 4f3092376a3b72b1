#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

/// A folder that looks like a cgroup.
fn folder(name: &str, version: Version, controllers: &str, files: &[(&str, &str)]) -> Directory {
    let path = std::env::temp_dir().join(format!("rsc-stats-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    files.iter().for_each(|(file, text)| fs::write(path.join(file), text).unwrap());
    let controllers = controllers.split(',').map(str::to_owned).collect();
    Directory { path, version, controllers, made: false, parents: Vec::new(), handle: None }
}

fn read(directories: Vec<Directory>) -> (Stats, Cgroup) {
    let cgroup = Cgroup { directories, unit: None };
    let stats = cgroup.stats();
    (stats, cgroup)
}

fn remove(cgroup: &Cgroup) {
    cgroup.directories.iter().for_each(|it| fs::remove_dir_all(&it.path).unwrap());
}

const PRESSURE: &str = "some avg10=1.50 avg60=0.25 avg300=0.00 total=59275\n\
                        full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";

#[test]
fn version_2() {
    let files = [
        (
            "cpu.stat",
            "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnice_usec 0\n\
             core_sched.force_idle_usec 0\nnr_periods 4\nnr_throttled 3\nthrottled_usec 70\n\
             nr_bursts 0\nburst_usec 0\n",
        ),
        ("cpu.pressure", PRESSURE),
        ("memory.current", "4096\n"),
        ("memory.max", "max\n"),
        ("memory.peak", "8192\n"),
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n"),
        ("memory.stat", "anon 1000\nfile 2000\nkernel 300\nkernel_stack 16384\nshmem 5\n"),
        ("memory.swap.current", "10\n"),
        ("memory.swap.max", "100\n"),
        ("memory.swap.events", "high 0\nmax 3\nfail 0\n"),
        (
            "io.stat",
            "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=1\n\
             7:0 \n8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=9\n",
        ),
        ("pids.current", "3\n"),
        ("pids.max", "20\n"),
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.max", "max\n"),
        ("hugetlb.2MB.events", "max 4\n"),
        ("hugetlb.2MB.events.local", "max 4\n"),
        ("hugetlb.2MB.rsvd.current", "4194304\n"),
        ("hugetlb.2MB.rsvd.max", "8388608\n"),
    ];
    let (stats, cgroup) =
        read(vec![folder("two", Version::Two, "cpu,memory,io,pids,hugetlb", &files)]);
    let cpu = stats.cpu.unwrap();
    assert_eq!(
        (cpu.total, cpu.user, cpu.system),
        (Some(1_500_000), Some(1_000_000), Some(500_000))
    );
    assert_eq!(cpu.per_cpu, None);
    let expected = Throttling { periods: 4, throttled_periods: 3, throttled_time: 70_000 };
    assert_eq!(cpu.throttling, Some(expected));
    let memory = stats.memory.unwrap();
    let all = Usage { usage: 4096, limit: UNLIMITED, max_usage: Some(8192), failcnt: Some(7) };
    assert_eq!(memory.all, all);
    assert_eq!(memory.swap.unwrap().limit, 100);
    assert_eq!((memory.ooms, memory.oom_kills, memory.kernel), (Some(2), Some(1), Some(300)));
    let both = memory.with_swap.unwrap();
    assert_eq!((both.usage, both.limit), (4106, UNLIMITED));
    assert_eq!(cgroup.oom_kills(), Some(1));
    let io = stats.io.unwrap();
    assert_eq!(io.bytes.len(), 6);
    assert_eq!(io.operations[2], IoEntry { major: 8, minor: 16, op: "Discard".into(), value: 1 });
    assert_eq!(stats.pids, Some(Pids { current: 3, limit: 20 }));
    let pages = &stats.hugetlb.unwrap()["2MB"];
    assert_eq!(
        (pages.used.usage, pages.used.limit, pages.used.failcnt),
        (2 << 20, UNLIMITED, Some(4))
    );
    assert_eq!(pages.reserved.as_ref().unwrap().usage, 4 << 20);
    let waited = stats.pressure.cpu.unwrap();
    assert_eq!((waited.some.avg10, waited.some.total), (1.5, 59_275_000));
    assert_eq!(stats.pressure.memory, None);
    remove(&cgroup);
}

#[test]
fn version_1_beside_an_empty_version_2() {
    let accounting = [
        ("cpuacct.usage", "2000\n"),
        ("cpuacct.stat", "user 3\nsystem 4\n"),
        ("cpuacct.usage_percpu", "1500 500 \n"),
        ("cpuacct.usage_all", "cpu user system\n0 1000 500\n1 400 100\n"),
        ("cpu.stat", "nr_periods 1\nnr_throttled 0\nthrottled_time 0\nnr_bursts 0\nburst_time 0\n"),
    ];
    let memory = [
        ("memory.usage_in_bytes", "1000\n"),
        ("memory.max_usage_in_bytes", "1500\n"),
        ("memory.failcnt", "2\n"),
        ("memory.limit_in_bytes", "5000\n"),
        ("memory.memsw.usage_in_bytes", "1100\n"),
        ("memory.memsw.max_usage_in_bytes", "1600\n"),
        ("memory.memsw.failcnt", "0\n"),
        ("memory.memsw.limit_in_bytes", "9223372036854771712\n"),
        ("memory.kmem.usage_in_bytes", "77\n"),
        ("memory.kmem.failcnt", "0\n"),
        ("memory.kmem.max_usage_in_bytes", "80\n"),
        ("memory.stat", "cache 1\nrss 2\ntotal_cache 10\ntotal_rss 20\ntotal_swap 90\n"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n"),
    ];
    let io = [
        ("blkio.bfq.io_serviced_recursive", "Total 0\n"),
        ("blkio.throttle.io_serviced_recursive", "254:0 Read 2\n254:0 Total 2\nTotal 2\n"),
        (
            "blkio.throttle.io_service_bytes_recursive",
            "254:0 Read 8192\n254:0 Total 8192\nTotal 8192\n",
        ),
    ];
    let unified =
        [("cpu.stat", "usage_usec 9\nuser_usec 9\nsystem_usec 0\n"), ("io.pressure", PRESSURE)];
    let (stats, cgroup) = read(vec![
        folder("one-cpu", Version::One, "cpu,cpuacct", &accounting),
        folder("one-memory", Version::One, "memory", &memory),
        folder("one-io", Version::One, "blkio", &io),
        folder("one-pids", Version::One, "pids", &[("pids.current", "1\n"), ("pids.max", "max\n")]),
        folder("one-unified", Version::Two, "", &unified),
    ]);
    let cpu = stats.cpu.unwrap();
    assert_eq!((cpu.total, cpu.user, cpu.system), (Some(2000), Some(30_000_000), Some(40_000_000)));
    assert_eq!(cpu.per_cpu, Some(vec![1500, 500]));
    assert_eq!((cpu.per_cpu_user, cpu.per_cpu_system), (vec![1000, 400], vec![500, 100]));
    assert_eq!(cpu.throttling.unwrap().periods, 1);
    let memory = stats.memory.unwrap();
    assert_eq!((memory.all.usage, memory.all.limit), (1000, 5000));
    assert_eq!(memory.with_swap.unwrap().limit, 9_223_372_036_854_771_712);
    assert_eq!(memory.swap.unwrap(), Usage { usage: 90, limit: UNLIMITED, ..Usage::default() });
    assert_eq!((memory.kernel, memory.ooms, memory.oom_kills), (Some(77), None, Some(6)));
    assert_eq!(stats.io.unwrap().bytes.len(), 2);
    assert_eq!(stats.pids, Some(Pids { current: 1, limit: UNLIMITED }));
    assert_eq!(stats.hugetlb, None);
    assert_eq!(stats.pressure.io.unwrap().full.total, 12_000);
    assert_eq!(cgroup.oom_kills(), Some(6));
    remove(&cgroup);
}

#[test]
fn nothing_is_counted_of_what_is_gone() {
    let directory = folder("gone", Version::Two, "cpu,memory", &[]);
    fs::remove_dir_all(&directory.path).unwrap();
    assert_eq!(read(vec![directory]).0, Stats::default());
    assert_eq!(Cgroup::default().stats(), Stats::default());
}
