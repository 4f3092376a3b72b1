//! The tree that criu restores into.
//!
//! criu wants the rootfs to be a mount whose parent nothing covers. It is given one in a mount
//! namespace of its own, on the folder of the container's state, which nobody looks for there: the
//! host sees nothing of it, and nothing is left when whoever made it is killed.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};
use crate::path_c_string;
use crate::plan::Plan;
use crate::plan::step::Step;
use crate::sys::mount::{self, MountAttr};
use crate::sys::{path, pidfd};

/// This process is in a mount namespace of its own, and knows the way back.
#[derive(Debug)]
pub struct Tree {
    home: OwnedFd,
    /// Who enters a mount namespace is at its root.
    folder: OwnedFd,
}

impl Tree {
    /// Enters a new mount namespace where the rootfs is at `place`, with all that the plan mounts on
    /// already in it: criu makes no folders.
    ///
    /// # Errors
    /// The privilege for it is missing; a mount point cannot be made. This process is back then.
    pub fn make(rootfs: &Path, place: &Path, plan: &Plan) -> Result<Self> {
        let open = |path: &str, flags: OFlag| {
            open(path, flags | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| Error::path_call("open", path, errno))
        };
        let home = open("/proc/self/ns/mnt", OFlag::O_RDONLY)?;
        let folder = open(".", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| {
            Error::call("unshare", "for a mount namespace of criu's", errno)
                .hint("criu asks for root")
        })?;
        let tree = Tree { home, folder };
        match tree.build(rootfs, place, plan) {
            Ok(()) => Ok(tree),
            Err(error) => tree.leave().and(Err(error)),
        }
    }

    /// Goes back to where this process came from.
    ///
    /// # Errors
    /// setns(2)'s: then this process must not act in the host's name.
    pub fn leave(self) -> Result<()> {
        pidfd::setns(&self.home, libc::CLONE_NEWNS)
            .map_err(|errno| Error::call("setns", "back to the host's mounts", errno))?;
        nix::unistd::fchdir(&self.folder)
            .map_err(|errno| Error::call("fchdir", "back to the folder of before", errno))
    }

    fn build(&self, rootfs: &Path, place: &Path, plan: &Plan) -> Result<()> {
        let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let detached = root.and_then(|root| detach(&root));
        detached.map_err(|errno| Error::path_call("mount_setattr", "/", errno))?;
        let scaffold = show(rootfs, place)?;
        for planned in &plan.steps {
            mount_point(&scaffold, plan, &planned.step).map_err(|error| {
                match &planned.asked_by {
                    Some(asked_by) => error.asked_by(asked_by),
                    None => error,
                }
            })?;
        }
        umount2(place, MntFlags::MNT_DETACH)
            .map_err(|errno| Error::path_call("umount2", place, errno))?;
        show(rootfs, place).map(drop)
    }
}

fn detach(tree: impl AsFd) -> nix::Result<()> {
    let slave = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
    mount::set_attributes(tree, &slave, true)
}

/// Mounts a tree's copy.
fn show(rootfs: &Path, place: &Path) -> Result<OwnedFd> {
    let tree = copy(&path_c_string(rootfs)?)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let attached = open(place, flags, Mode::empty()).and_then(|at| mount::attach(&tree, at));
    attached.map_err(|errno| Error::path_call("move_mount", place, errno)).map(|()| tree)
}

fn copy(source: &CStr) -> Result<OwnedFd> {
    let tree = mount::clone_tree(AT_FDCWD, source, true);
    let tree = tree.and_then(|tree| detach(&tree).map(|()| tree));
    tree.map_err(|errno| Error::path_call("open_tree", source.to_string_lossy().as_ref(), errno))
}

/// Makes what a step mounts on. What is bound is mounted too, for a later one may be inside of it;
/// what is inside of a new file system comes with that one.
fn mount_point(root: &OwnedFd, plan: &Plan, step: &Step) -> Result<()> {
    const MODE: Mode = Mode::from_bits_truncate(0o755);
    let (target, source) = match step {
        Step::Mount(mount) => (&mount.target, None),
        Step::Bind(bind) => (&bind.target, Some(&bind.source)),
        Step::Device(device) if device.bind => (&device.path, Some(&device.path)),
        _ => return Ok(()),
    };
    if is_in_file_system(plan, target) {
        return Ok(());
    }
    let failed = |call: &str, errno: Errno| {
        Error::path_call(call, target.to_string_lossy().as_ref(), errno)
            .context("make a mount point to restore on")
    };
    let Some(source) = source else {
        return path::make_dir_in(root, target, MODE)
            .map(drop)
            .map_err(|errno| failed("mkdirat", errno));
    };
    let source = copy(source)?;
    let made = path::make_like_in(root, &source, target, MODE);
    let made = made.map_err(|(call, errno)| failed(call, errno))?;
    mount::attach(&source, made).map_err(|errno| failed("move_mount", errno))
}

fn is_in_file_system(plan: &Plan, target: &CStr) -> bool {
    let target = Path::new(std::ffi::OsStr::from_bytes(target.to_bytes()));
    plan.steps.iter().any(|planned| match &planned.step {
        Step::Mount(mount) => {
            let mounted = Path::new(std::ffi::OsStr::from_bytes(mount.target.to_bytes()));
            mounted != target && target.starts_with(mounted)
        }
        _ => false,
    })
}
