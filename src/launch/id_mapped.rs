//! The sources of id-mapped mounts, prepared for the child.
//!
//! mount_setattr(2) maps the ids of a mount that is not attached yet, for the
//! administrator of its file system's own user namespace. That is the host's
//! root, which the child of a container with a user namespace is not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;

use super::{Child, id_maps, open_namespace};
use crate::error::{Error, Result};
use crate::plan::{IdMaps, MappedTree, MountIds};
use crate::sys::clone::{self, CloneFlags, Cloned, SingleThreaded, clone3};
use crate::sys::mount::{self, MountAttr, attr};
use crate::sys::{pidfd, socket};

/// Opens what the plan wants mapped, in its order.
pub(super) fn open(child: &Child<'_>) -> Result<Vec<OwnedFd>> {
    let mut users = Vec::<(&MountIds, OwnedFd)>::new();
    let mut trees = Vec::new();
    for asked in &child.plan.mapped {
        let tree = clone_tree(asked)?;
        let user = match users.iter().position(|(ids, _)| **ids == asked.ids) {
            Some(known) => &users[known].1,
            None => {
                users.push((&asked.ids, user_namespace(child, asked)?));
                &users[users.len() - 1].1
            }
        };
        map_ids(&tree, user, asked)?;
        trees.push(tree);
    }
    Ok(trees)
}

fn failed(asked: &MappedTree, call: &str, errno: Errno) -> Error {
    let path = asked.path.to_string_lossy();
    Error::path_call(call, &*path, errno).context(asked).asked_by(&asked.asked_by)
}

/// A copy of the mount in the parent's tree. It is a peer of the host's until it is told otherwise.
fn clone_tree(asked: &MappedTree) -> Result<OwnedFd> {
    const SLAVE: MountAttr =
        MountAttr { set: 0, clear: 0, propagation: libc::MS_SLAVE, userns_fd: 0 };
    let tree = mount::clone_tree(AT_FDCWD, &asked.path, asked.with_submounts).map_err(|errno| {
        let error = failed(asked, "open_tree", errno);
        match errno {
            Errno::ENOENT => error.hint("the source must exist on the host"),
            Errno::EPERM => error.hint(NEEDS_ROOT),
            _ => error,
        }
    })?;
    mount::set_attributes(&tree, &SLAVE, true)
        .map_err(|errno| failed(asked, "mount_setattr", errno))?;
    Ok(tree)
}

const NEEDS_ROOT: &str = "this needs CAP_SYS_ADMIN in the user namespace that the file system \
                          was mounted in, and a source that is not id-mapped already";

fn map_ids(tree: &OwnedFd, user: &OwnedFd, asked: &MappedTree) -> Result<()> {
    let attributes =
        MountAttr { set: attr::IDMAP, userns_fd: user.as_raw_fd() as u64, ..MountAttr::default() };
    mount::set_attributes(tree, &attributes, asked.recursive).map_err(|errno| {
        let error = failed(asked, "mount_setattr", errno);
        match errno {
            Errno::EINVAL => error.hint(unsupported_by(asked)),
            Errno::EPERM => error.hint(NEEDS_ROOT),
            Errno::ENOSYS => error.hint("this needs linux 5.12 or newer"),
            _ => error,
        }
    })
}

fn user_namespace(child: &Child<'_>, asked: &MappedTree) -> Result<OwnedFd> {
    let opened = match &asked.ids {
        MountIds::Own(maps) => new_user_namespace(maps, asked),
        MountIds::Joined(path) => open_namespace(&path.to_string_lossy()),
        MountIds::Container => child.namespace("user"),
    };
    opened.map_err(|error| error.asked_by(&asked.asked_by))
}

/// A user namespace of no use but for its id maps; whoever holds it open keeps it.
fn new_user_namespace(maps: &IdMaps, asked: &MappedTree) -> Result<OwnedFd> {
    let failed = |call: &str, errno| failed(asked, call, errno);
    let proof = SingleThreaded::prove().ok_or_else(|| failed("clone3", Errno::EBUSY))?;
    let (ours, theirs) = socket::pair().map_err(|errno| failed("socketpair", errno))?;
    let flags = CloneFlags { namespaces: libc::CLONE_NEWUSER as u64, ..CloneFlags::default() };
    let (pid, process) = match clone3(proof, &flags).map_err(|errno| failed("clone3", errno))? {
        Cloned::Parent(pid, process) => (pid, process),
        Cloned::Child => {
            // It is there to be looked at, and ends with the parent's end of the pair.
            drop(ours);
            let _ = socket::receive(&theirs, &mut [0; 1]);
            clone::exit_now(0)
        }
    };
    drop(theirs);
    let opened = id_maps::write(pid, maps, &asked.asked_by)
        .and_then(|()| open_namespace(&format!("/proc/{pid}/ns/user")));
    drop(ours);
    pidfd::reap(&process, true).map_err(|errno| failed("waitid", errno))?;
    opened
}

/// Which file system it is that cannot do this; the kernel says EINVAL alone.
fn unsupported_by(asked: &MappedTree) -> String {
    let path = Path::new(OsStr::from_bytes(asked.path.to_bytes()));
    let types = file_systems(path, asked.recursive && asked.with_submounts).unwrap_or_default();
    match types.as_slice() {
        [] => "its file system does not support id-mapped mounts on this kernel".to_owned(),
        [one] => format!("{one} does not support id-mapped mounts on this kernel"),
        several => format!(
            "one of these does not support id-mapped mounts on this kernel: {}; the option idmap \
             maps the ids of the topmost alone",
            several.join(", ")
        ),
    }
}

/// The types of the file systems at a path, the topmost first, and of those below it.
fn file_systems(path: &Path, below: bool) -> std::io::Result<Vec<String>> {
    let path = path.canonicalize()?;
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        Some((Path::new(mount.split(' ').nth(4)?), file_system.split(' ').next()?))
    });
    let mut found = Vec::new();
    let mut top = ("", 0);
    for (point, kind) in mounts {
        let depth = point.as_os_str().len();
        // Of several at one place the last covers the others.
        if path.starts_with(point) && depth >= top.1 {
            top = (kind, depth);
        } else if below && point.starts_with(&path) {
            found.push(kind.to_owned());
        }
    }
    found.insert(0, top.0.to_owned());
    let mut seen = BTreeSet::new();
    found.retain(|kind| !kind.is_empty() && seen.insert(kind.clone()));
    Ok(found)
}
