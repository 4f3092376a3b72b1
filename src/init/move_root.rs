//! The way into the rootfs without pivot_root(2): it is moved on top of `/`.
//!
//! The host's tree stays below, out of sight and not out of the namespace: whoever gets out of the
//! root has it before them. And the kernel lets a user namespace mount a fresh procfs or sysfs
//! where the mount namespace has a whole one already, which the host's are; so those are taken
//! down first.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::{Child, Done, Failure, mounts, open_path};
use crate::sys::{mount, path};

impl Child<'_> {
    pub(super) fn move_root(&mut self) -> Done {
        let root = self.root.take().ok_or(Failure::new("move_mount", Errno::EBADF))?;
        let old = open_path(c"/")?;
        for place in whole_mounts_outside(&root)? {
            take_down(&place)?;
        }
        nix::unistd::fchdir(&root).map_err(Failure::of("fchdir"))?;
        mount::attach(&root, old).map_err(Failure::of("move_mount"))?;
        nix::unistd::chroot(c".").map_err(Failure::of("chroot"))?;
        self.masks = mounts::Masks::default();
        nix::unistd::chdir(c"/").map_err(Failure::of("chdir"))
    }
}

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
struct Line<'a> {
    id: u64,
    parent: u64,
    /// What of the file system is mounted.
    part: &'a str,
    place: &'a str,
    fstype: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut words = mount.split(' ');
        let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (part, place) = (words.nth(1)?, words.next()?);
        Some(Line { id, parent, part, place, fstype: filesystem.split(' ').next()? })
    }
}

/// Where procfs and sysfs are mounted whole and not below `root`; what is on top comes first.
fn whole_mounts_outside(root: &OwnedFd) -> Result<Vec<CString>, Failure> {
    let unreadable = |_| Failure::new("read", Errno::EIO);
    let info = format!("/proc/self/fdinfo/{}", root.as_raw_fd());
    let info = std::fs::read_to_string(info).map_err(unreadable)?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    let own: u64 = id.ok_or(Failure::new("read", Errno::EBADMSG))?;
    let text = std::fs::read_to_string("/proc/self/mountinfo").map_err(unreadable)?;
    let lines: Vec<Line<'_>> = text.lines().filter_map(Line::parse).collect();
    let parents: HashMap<u64, u64> = lines.iter().map(|line| (line.id, line.parent)).collect();
    let is_inside = |mut id: u64| loop {
        match parents.get(&id) {
            _ if id == own => return true,
            Some(parent) if *parent != id => id = *parent,
            _ => return false,
        }
    };
    let wanted = lines.iter().rev().filter(|line| {
        line.part == "/" && matches!(line.fstype, "proc" | "sysfs") && !is_inside(line.id)
    });
    let places = wanted.map(|line| path::c_string(&unescaped(line.place)));
    places.collect::<nix::Result<_>>().map_err(Failure::of("read"))
}

/// `\040` for a space, and whatever else would break the line.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok());
        bytes.extend(code);
        bytes.extend_from_slice(part.get(3..).unwrap_or_default().as_bytes());
    }
    bytes
}

fn take_down(place: &CString) -> Done {
    match nix::mount::umount2(place.as_c_str(), MntFlags::MNT_DETACH) {
        // Something that it was mounted on went first.
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
        // In a user namespace what the host mounted is locked to the rest, and can be covered.
        Err(Errno::EINVAL | Errno::EPERM) => {
            let tmpfs = Some(c"tmpfs");
            nix::mount::mount(tmpfs, place.as_c_str(), tmpfs, MsFlags::empty(), None::<&str>)
                .map_err(Failure::of("mount"))
        }
        Err(errno) => Err(Failure::new("umount2", errno)),
    }
}
