//! Steps that build the container's tree.
//!
//! Every target is resolved below the root's descriptor and the mount acts on
//! the descriptor that came out (CVE-2021-30465: a path checked and then used
//! again may have been swapped).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::MntFlags;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::{Child, Done, Failure, copy_up, filesystem, open_path, propagation};
use crate::plan::step::{BindMount, FilesystemMount, Step};
use crate::sys::mount::{self, MountAttr, attr};
use crate::sys::{path, xattr};

/// What covers masked paths, made on first use and cloned from there.
#[derive(Default)]
pub(super) struct Masks {
    empty: Option<OwnedFd>,
    null: Option<OwnedFd>,
    /// What SELinux calls the former.
    label: Option<CString>,
}

pub(super) const FOLDER_MODE: Mode = Mode::from_bits_truncate(0o755);

impl Child<'_> {
    pub(super) fn mount_step(&mut self, step: &Step) -> Done {
        match step {
            Step::DetachPropagation(flag) => propagation::detach_all(*flag),
            Step::DetachMountOf { path } => propagation::detach_mount_of(path),
            Step::AttachRootfs { path } => self.attach_rootfs(path),
            Step::MountRootfs { path, at, propagation } => {
                self.mount_rootfs(path, at, *propagation)
            }
            Step::OpenSource { path, with_submounts } => {
                let tree = mount::clone_tree(AT_FDCWD, path, *with_submounts);
                self.sources.push(Some(tree.map_err(Failure::of("open_tree"))?));
                Ok(())
            }
            Step::AwaitSources { count } => self.await_sources(*count),
            Step::Mount(mount) => self.mount(mount),
            Step::Bind(bind) => self.bind(bind),
            Step::Remount { target, parameters, attributes, recursive } => {
                let target = path::open_in(self.root()?, target, OFlag::O_PATH)
                    .map_err(Failure::of("openat2"))?;
                filesystem::reconfigure(&target, parameters)?;
                set_attributes(&target, attributes, recursive.as_ref())
            }
            Step::Device(device) => self.device(device),
            Step::Link { target, path, replace } => self.link(target, path, *replace),
            Step::MakeDir(path) => path::make_dir_in(self.root()?, path, FOLDER_MODE)
                .map(drop)
                .map_err(Failure::of("mkdirat")),
            Step::Relabel { target, label } => self.relabel(target, label),
            Step::LabelMasks(label) => {
                self.masks.label = Some(label.clone());
                Ok(())
            }
            Step::Mask(path) => self.mask(path),
            Step::ReadOnly(path) => self.read_only(path),
            Step::Pivot => self.pivot(),
            Step::MoveRoot => self.move_root(),
            Step::Chroot => self.chroot(),
            Step::RootAttributes { attributes, recursive } => {
                mount::set_attributes(open_path(c"/")?, attributes, *recursive)
                    .map_err(Failure::of("mount_setattr"))
            }
            _ => Err(Failure::new("step", Errno::ENOSYS)),
        }
    }

    fn await_sources(&mut self, count: usize) -> Done {
        // One message does not carry any number of them.
        while self.sources.len() < count {
            let sources = self.hear_descriptors()?;
            self.sources.extend(sources.into_iter().map(Some));
        }
        Ok(())
    }

    fn attach_rootfs(&mut self, rootfs: &CStr) -> Done {
        if self.plan.steps.iter().any(|planned| matches!(planned.step, Step::Chroot)) {
            self.root = Some(open_path(rootfs)?);
            return Ok(());
        }
        let tree = mount::clone_tree(AT_FDCWD, rootfs, true).map_err(Failure::of("open_tree"))?;
        let target = nix::fcntl::open(
            rootfs,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(Failure::of("open"))?;
        // The copies are peers of the host's mounts, or of none, until they are told otherwise.
        propagation::set_slave(&tree)?;
        mount::attach(&tree, target).map_err(Failure::of("move_mount"))?;
        self.root = Some(tree);
        Ok(())
    }

    fn mount(&self, asked: &FilesystemMount) -> Done {
        let mode = if asked.mode_of_target { self.mode_of(&asked.target)? } else { None };
        let target = self.folder_for(asked)?;
        if filesystem::needs_mount(asked) {
            filesystem::mount(asked, mode, &target)?;
            let mounted = path::open_in(self.root()?, &asked.target, OFlag::O_PATH)
                .map_err(Failure::of("openat2"))?;
            if asked.copy_up {
                copy_up::copy(&target, &mounted)?;
            }
            return set_attributes(&mounted, &asked.attributes, asked.recursive.as_ref());
        }
        let mounted = filesystem::new(asked, mode)?;
        if asked.copy_up {
            copy_up::copy(&target, &mounted)?;
        }
        let later = MountAttr { set: 0, clear: 0, ..asked.attributes };
        set_attributes(&mounted, &later, asked.recursive.as_ref())?;
        if asked.copy_up && asked.attributes.set & attr::RDONLY != 0 {
            let sealed = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
            set_attributes(&mounted, &sealed, None)?;
        }
        mount::attach(mounted, target).map_err(Failure::of("move_mount"))
    }

    /// The permission bits of what is there, as the `mode` of a tmpfs.
    fn mode_of(&self, path: &CStr) -> Result<Option<CString>, Failure> {
        let Some(found) = self.existing(path)? else { return Ok(None) };
        let stat = fstat(&found).map_err(Failure::of("fstat"))?;
        Ok(CString::new(format!("{:o}", stat.st_mode & 0o7777)).ok())
    }

    fn folder_for(&self, asked: &FilesystemMount) -> Result<OwnedFd, Failure> {
        let made = path::make_dir_in(self.root()?, &asked.target, FOLDER_MODE)
            .map_err(Failure::of("mkdirat"))?;
        if !asked.direct {
            return Ok(made);
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        path::open_in_nofollow(self.root()?, &asked.target, flags).map_err(|errno| Failure {
            call: "openat2",
            errno,
            detail: "in the rootfs it must be a folder, and no link to one".to_owned(),
        })
    }

    fn bind(&mut self, asked: &BindMount) -> Done {
        let opened = asked.opened.and_then(|opened| self.sources.get_mut(opened)?.take());
        let tree = match opened {
            Some(tree) => tree,
            None => mount::clone_tree(AT_FDCWD, &asked.source, asked.with_submounts)
                .map_err(Failure::of("open_tree"))?,
        };
        if asked.procfs {
            check_procfs(&tree)?;
        }
        if asked.slave {
            propagation::set_slave(&tree)?;
        }
        let target = self.target_like(&tree, &asked.target)?;
        set_bound(&tree, asked)?;
        mount::attach(tree, target).map_err(Failure::of("move_mount"))
    }

    /// A folder is mounted on a folder, anything else on a file.
    pub(super) fn target_like(&self, source: &OwnedFd, target: &CStr) -> Result<OwnedFd, Failure> {
        path::make_like_in(self.root()?, source, target, FOLDER_MODE)
            .map_err(|(call, errno)| Failure::new(call, errno))
    }

    fn mask(&mut self, path: &CStr) -> Done {
        let Some(target) = self.existing(path)? else { return Ok(()) };
        let stat = fstat(&target).map_err(Failure::of("fstat"))?;
        let is_folder = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let Masks { empty, null, label } = &mut self.masks;
        let first = if is_folder { empty } else { null };
        // The first is attached itself: before 6.15 a mount that is not attached cannot be cloned.
        let cover = match first {
            Some(first) => {
                &mount::clone_tree(first.as_fd(), c"", false).map_err(Failure::of("open_tree"))?
            }
            None if is_folder => first.insert(empty_folder(label.as_deref())?),
            None => first.insert(null_device()?),
        };
        mount::attach(cover, target).map_err(Failure::of("move_mount"))
    }

    fn relabel(&self, target: &CStr, label: &CStr) -> Done {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let root = path::open_in(self.root()?, target, flags).map_err(Failure::of("openat2"))?;
        xattr::set(root, c"security.selinux", label.to_bytes()).map_err(Failure::of("fsetxattr"))
    }

    fn read_only(&self, path: &CStr) -> Done {
        let Some(target) = self.existing(path)? else { return Ok(()) };
        let copy =
            mount::clone_tree(target.as_fd(), c"", true).map_err(Failure::of("open_tree"))?;
        let sealed = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
        set_attributes(&copy, &sealed, None)?;
        mount::attach(copy, target).map_err(Failure::of("move_mount"))
    }

    /// A path that kernels and images may lack is none of the container's loss.
    fn existing(&self, path: &CStr) -> Result<Option<OwnedFd>, Failure> {
        match path::open_in(self.root()?, path, OFlag::O_PATH) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(Failure::new("openat2", errno)),
        }
    }

    /// pivot_root(2) onto itself: the old root ends up on top of the new one, where one lazy
    /// unmount takes it off, and no folder for it is needed in the rootfs.
    fn pivot(&mut self) -> Done {
        let root = self.root.take().ok_or(Failure::new("pivot_root", Errno::EBADF))?;
        let old = open_path(c"/")?;
        nix::unistd::fchdir(&root).map_err(Failure::of("fchdir"))?;
        nix::unistd::pivot_root(c".", c".").map_err(Failure::of("pivot_root"))?;
        // Peers of the host's mounts would take those along when they are unmounted; a hook may have
        // made some even where none were left.
        propagation::set_slave(&old)?;
        nix::mount::umount2(c".", MntFlags::MNT_DETACH).map_err(Failure::of("umount2"))?;
        self.masks = Masks::default();
        nix::unistd::chdir(c"/").map_err(Failure::of("chdir"))
    }

    fn chroot(&mut self) -> Done {
        let root = self.root.take().ok_or(Failure::new("chroot", Errno::EBADF))?;
        nix::unistd::fchdir(&root).map_err(Failure::of("fchdir"))?;
        nix::unistd::chroot(c".").map_err(Failure::of("chroot"))?;
        self.masks = Masks::default();
        Ok(())
    }
}

/// A user namespace that the source's mount is older than may not clear most of its attributes
/// (mount_namespaces(7)): what nobody named stays then.
fn set_bound(tree: &OwnedFd, asked: &BindMount) -> Done {
    let without = |not_asked| {
        let clear = asked.attributes.clear | not_asked;
        set_attributes(tree, &MountAttr { clear, ..asked.attributes }, asked.recursive.as_ref())
    };
    match without(asked.not_asked) {
        Err(Failure { errno: Errno::EPERM, .. }) if asked.not_asked != 0 => {
            without(asked.not_asked & attr::NOSYMFOLLOW)
        }
        set => set,
    }
}

fn set_attributes(mount: &OwnedFd, one: &MountAttr, all: Option<&MountAttr>) -> Done {
    if *one != MountAttr::default() {
        mount::set_attributes(mount, one, false).map_err(Failure::of("mount_setattr"))?;
    }
    match all {
        Some(all) => mount::set_attributes(mount, all, true).map_err(Failure::of("mount_setattr")),
        None => Ok(()),
    }
}

/// Anything else in its place could tell programs what it likes of how they are confined.
fn check_procfs(tree: &OwnedFd) -> Done {
    let found = fstatfs(tree).map_err(Failure::of("fstatfs"))?;
    if found.filesystem_type() == PROC_SUPER_MAGIC {
        return Ok(());
    }
    let detail = "nothing but a procfs can be mounted on /proc".to_owned();
    Err(Failure { call: "fstatfs", errno: Errno::EPERM, detail })
}

fn empty_folder(label: Option<&CStr>) -> Result<OwnedFd, Failure> {
    let context = mount::fsopen(c"tmpfs").map_err(Failure::of("fsopen"))?;
    let parameters =
        [(c"source", c"tmpfs"), (c"size", c"0"), (c"nr_inodes", c"1"), (c"mode", c"755")];
    let label = label.map(|label| (c"context", label));
    for (key, value) in parameters.into_iter().chain(label) {
        mount::fsconfig(&context, key, Some(value)).map_err(Failure::of("fsconfig"))?;
    }
    let attributes = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    mount::fsmount(&context, attributes).map_err(Failure::of("fsmount"))
}

/// The host's /dev/null, checked: what is put over a masked file must be nothing else
/// (CVE-2025-31133).
fn null_device() -> Result<OwnedFd, Failure> {
    let null =
        mount::clone_tree(AT_FDCWD, c"/dev/null", false).map_err(Failure::of("open_tree"))?;
    let stat = fstat(&null).map_err(Failure::of("fstat"))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != libc::makedev(1, 3) {
        let detail = "the host's /dev/null is not the null device".to_owned();
        return Err(Failure { call: "fstat", errno: Errno::ENODEV, detail });
    }
    // What the container puts over it must not be put over the host's.
    propagation::set_slave(&null)?;
    Ok(null)
}
