#![allow(clippy::unwrap_used)]

use super::*;

/// A host with every controller apart, the unified hierarchy beside them, and no systemd.
pub(in crate::cgroup) fn hybrid() -> Hierarchies {
    let controllers = ["cpu", "cpuset", "memory", "devices", "freezer", "pids", "hugetlb"];
    let mut mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n".to_owned();
    let mut cgroup = String::new();
    for (index, name) in controllers.iter().enumerate() {
        mountinfo += &format!(
            "{} 31 0:{index} / /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}\n",
            index + 40
        );
        let own = if *name == "memory" { "/agent/88e3" } else { "/" };
        cgroup += &format!("{}:{name}:{own}\n", index + 1);
    }
    mountinfo += "60 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
    mountinfo += "61 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    cgroup += "9:name=systemd:/\n0::/\n";
    Hierarchies::parse(&mountinfo, &cgroup).with_unified_controllers("\n")
}

/// Debian 12: version 2 alone, seen from a login session.
pub(in crate::cgroup) fn unified() -> Hierarchies {
    Hierarchies::parse(
        "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 \
         rw,nsdelegate,memory_recursiveprot\n\
         30 23 0:27 / /sys/fs/pstore rw,nosuid shared:10 - pstore pstore rw\n",
        "0::/user.slice/user-1000.slice/session-1.scope\n",
    )
    .with_unified_controllers("cpuset cpu io memory hugetlb pids rdma misc\n")
}

/// Inside of a Docker container on a host of version 1: subtrees mounted, controllers together.
pub(in crate::cgroup) fn nested() -> Hierarchies {
    Hierarchies::parse(
        "970 969 0:30 /docker/ab12 /sys/fs/cgroup/systemd ro - cgroup cgroup rw,xattr,name=systemd\n\
         971 969 0:33 /docker/ab12 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
         972 969 0:34 /docker/ab12 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
        "9:memory:/docker/ab12\n4:cpu,cpuacct:/docker/ab12/inner\n1:name=systemd:/docker/ab12\n",
    )
}

fn places(hierarchies: &Hierarchies) -> Vec<(String, Vec<String>, String)> {
    let text = |path: &Path| path.display().to_string();
    let line = |one: &Hierarchy| (text(&one.mount_point), one.controllers.clone(), text(&one.own));
    hierarchies.iter().map(line).collect()
}

fn place(mount_point: &str, controllers: &[&str], own: &str) -> (String, Vec<String>, String) {
    let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
    (mount_point.to_owned(), controllers, own.to_owned())
}

#[test]
fn a_hybrid_host() {
    let hierarchies = hybrid();
    assert_eq!(hierarchies.layout(), Layout::Hybrid);
    let places = places(&hierarchies);
    assert_eq!(places.len(), 9);
    assert_eq!(places[5], place("/sys/fs/cgroup/memory", &["memory"], "agent/88e3"));
    assert_eq!(places[7], place("/sys/fs/cgroup/systemd", &[], ""));
    assert_eq!(places[8], place("/sys/fs/cgroup/unified", &[], ""));
    assert_eq!(hierarchies.v1().last().unwrap().name.as_deref(), Some("systemd"));
}

#[test]
fn a_unified_host() {
    let hierarchies = unified();
    assert_eq!(hierarchies.layout(), Layout::Unified);
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
    let own = "user.slice/user-1000.slice/session-1.scope";
    assert_eq!(places(&hierarchies), [place("/sys/fs/cgroup", &controllers, own)]);
}

#[test]
fn a_mounts_root_is_not_part_of_the_own_path() {
    let hierarchies = nested();
    assert_eq!(hierarchies.layout(), Layout::Legacy);
    let expected = [
        place("/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"], "inner"),
        place("/sys/fs/cgroup/memory", &["memory"], ""),
        place("/sys/fs/cgroup/systemd", &[], ""),
    ];
    assert_eq!(places(&hierarchies), expected);
}

#[test]
fn a_process_outside_of_what_is_mounted_starts_at_its_top() {
    for (root, own) in [("/docker/ab", "/docker/abc"), ("/", "/../x"), ("/..", "/x"), ("/a", "/")] {
        let mountinfo = format!("1 1 0:1 {root} /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids");
        let hierarchies = Hierarchies::parse(&mountinfo, &format!("1:pids:{own}"));
        assert_eq!(places(&hierarchies), [place("/sys/fs/cgroup/pids", &["pids"], "")]);
    }
}

#[test]
fn the_first_mount_wins_and_the_usual_place_before_it() {
    let hierarchies = Hierarchies::parse(
        "1 1 0:1 /docker/a /srv/box/sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
         2 1 0:1 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
         3 1 0:1 / /sys/fs/cgroup/again rw - cgroup cgroup rw,pids\n",
        "1:pids:/here (deleted)\n",
    );
    assert_eq!(places(&hierarchies), [place("/sys/fs/cgroup/pids", &["pids"], "here")]);
}

#[test]
fn escaped_names_and_odd_lines() {
    let hierarchies = Hierarchies::parse(
        "nonsense\n1 1 0:1 /a\\040b /mnt/c\\134d\\040e rw shared:1 master:2 - cgroup cgroup rw,pids\n",
        "1:pids:/a b/c:d\n:\n",
    );
    assert_eq!(places(&hierarchies), [place("/mnt/c\\d e", &["pids"], "c:d")]);
}

#[test]
fn no_cgroups() {
    assert_eq!(Hierarchies::parse("", "").layout(), Layout::Absent);
    assert_eq!(Hierarchies::parse("", "0::/\n"), Hierarchies::default());
}
