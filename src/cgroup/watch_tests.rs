#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

/// A folder that looks like a cgroup of version 2: its files are written as the kernel would.
fn folder(name: &str) -> (Cgroup, PathBuf) {
    let path = std::env::temp_dir().join(format!("rsc-watch-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    memory(&path, 3, 1);
    fs::write(path.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    let (version, controllers) = (Version::Two, vec!["memory".to_owned()]);
    let directory = Directory {
        path: path.clone(),
        version,
        controllers,
        made: false,
        parents: Vec::new(),
        handle: None,
    };
    (Cgroup { directories: vec![directory], unit: None }, path)
}

fn memory(path: &std::path::Path, ooms: u64, kills: u64) {
    let text = format!("low 0\nhigh 0\nmax 9\noom {ooms}\noom_kill {kills}\noom_group_kill 0\n");
    fs::write(path.join("memory.events"), text).unwrap();
}

fn can_be_read(watch: &Watch) -> bool {
    let mut fds: Vec<_> =
        watch.descriptors().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    poll(&mut fds, PollTimeout::from(1000_u16)).unwrap() > 0
}

#[test]
fn version_2_tells_by_its_files() {
    let (cgroup, path) = folder("two");
    let mut watch = Watch::begin(cgroup).unwrap();
    assert!(watch.counts_kills());
    assert_eq!(watch.descriptors().count(), 1);
    // What was before it began is nothing new.
    assert_eq!(watch.news(), []);
    memory(&path, 5, 2);
    assert!(can_be_read(&watch));
    assert_eq!(watch.news(), [Change::Oom(2), Change::OomKill(1)]);
    assert_eq!(watch.look_again(), None);
    fs::write(path.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
    assert!(can_be_read(&watch));
    assert_eq!(watch.news(), [Change::Frozen]);
    fs::write(path.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
    assert_eq!(watch.news(), [Change::Thawed]);
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(watch.news(), []);
}

#[test]
fn nothing_is_told_of_no_cgroup() {
    let mut watch = Watch::begin(Cgroup::default()).unwrap();
    assert_eq!(watch.news(), []);
    assert!(!watch.counts_kills());
    assert_eq!(watch.files.as_fd().as_raw_fd(), watch.descriptors().next().unwrap().as_raw_fd());
}
