//! Steps that build the container's tree.
//!
//! Every target is resolved below the root's descriptor and the mount acts on
//! the descriptor that came out (CVE-2021-30465: a path checked and then used
//! again may have been swapped).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mknodat};

use super::{Child, Done, Failure, copy_up, open_path, propagation};
use crate::plan::step::{BindMount, DeviceNode, FilesystemMount, Step};
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

/// fsconfig(2) takes values of up to 255 bytes; an overlay's lowerdir may be longer.
const LONGEST_PARAMETER: usize = 255;

const FOLDER_MODE: Mode = Mode::from_bits_truncate(0o755);

impl Child<'_> {
    pub(super) fn mount_step(&mut self, step: &Step) -> Done {
        match step {
            Step::DetachPropagation(flag) => propagation::detach_all(*flag),
            Step::DetachMountOf { path } => propagation::detach_mount_of(path),
            Step::AttachRootfs { path } => self.attach_rootfs(path),
            Step::OpenSource { path, with_submounts } => {
                let tree = mount::clone_tree(AT_FDCWD, path, *with_submounts);
                self.sources.push(Some(tree.map_err(Failure::of("open_tree"))?));
                Ok(())
            }
            Step::Mount(mount) => self.mount(mount),
            Step::Bind(bind) => self.bind(bind),
            Step::Remount { target, attributes, recursive } => {
                let target = path::open_in(self.root()?, target, OFlag::O_PATH)
                    .map_err(Failure::of("openat2"))?;
                set_attributes(&target, attributes, recursive.as_ref())
            }
            Step::Device(device) => self.device(device),
            Step::Link { target, path } => self.link(target, path),
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
        let target = self.folder_for(asked)?;
        let too_long = |(_, value): &(CString, Option<CString>)| {
            value.as_ref().is_some_and(|value| value.count_bytes() > LONGEST_PARAMETER)
        };
        if asked.parameters.iter().any(too_long) {
            mount_by_path(asked, &target)?;
            let mounted = path::open_in(self.root()?, &asked.target, OFlag::O_PATH)
                .map_err(Failure::of("openat2"))?;
            return set_attributes(&mounted, &asked.attributes, asked.recursive.as_ref());
        }
        let mounted = new_filesystem(asked)?;
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
        let target = self.target_like(&tree, &asked.target)?;
        set_attributes(&tree, &asked.attributes, asked.recursive.as_ref())?;
        mount::attach(tree, target).map_err(Failure::of("move_mount"))
    }

    /// A folder is mounted on a folder, anything else on a file.
    fn target_like(&self, source: &OwnedFd, target: &CStr) -> Result<OwnedFd, Failure> {
        let stat = fstat(source).map_err(Failure::of("fstat"))?;
        let root = self.root()?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            path::make_dir_in(root, target, FOLDER_MODE).map_err(Failure::of("mkdirat"))
        } else {
            path::make_file_in(root, target, FOLDER_MODE).map_err(Failure::of("openat2"))
        }
    }

    fn device(&self, asked: &DeviceNode) -> Done {
        if asked.bind {
            let host = mount::clone_tree(AT_FDCWD, &asked.path, false)
                .map_err(Failure::of("open_tree"))?;
            propagation::set_slave(&host)?;
            let target = self.target_like(&host, &asked.path)?;
            return mount::attach(host, target).map_err(Failure::of("move_mount"));
        }
        let (folder, name) = path::split(&asked.path).map_err(Failure::of("mknodat"))?;
        let folder = path::make_dir_in(self.root()?, &folder, FOLDER_MODE)
            .map_err(Failure::of("mkdirat"))?;
        let kind = SFlag::from_bits_truncate(asked.kind);
        let number = libc::makedev(asked.major, asked.minor);
        let mode = Mode::from_bits_truncate(asked.mode);
        match mknodat(&folder, name.as_c_str(), kind, mode, number) {
            Ok(()) => {}
            Err(Errno::EEXIST) if is_same_device(&folder, &name, asked) => {}
            Err(errno) => return Err(Failure::new("mknodat", errno)),
        }
        if (asked.uid, asked.gid) == (0, 0) {
            return Ok(());
        }
        nix::unistd::fchownat(
            &folder,
            name.as_c_str(),
            Some(asked.uid.into()),
            Some(asked.gid.into()),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .map_err(Failure::of("fchownat"))
    }

    fn link(&self, target: &CStr, path: &CStr) -> Done {
        let (folder, name) = path::split(path).map_err(Failure::of("symlinkat"))?;
        let folder = path::make_dir_in(self.root()?, &folder, FOLDER_MODE)
            .map_err(Failure::of("mkdirat"))?;
        match nix::unistd::symlinkat(target, folder, name.as_c_str()) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(Failure::new("symlinkat", errno)),
        }
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
        nix::unistd::chroot(c".").map_err(Failure::of("chroot"))
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

fn new_filesystem(asked: &FilesystemMount) -> Result<OwnedFd, Failure> {
    let context = mount::fsopen(&asked.fstype).map_err(Failure::of("fsopen"))?;
    // The kernel's own words on what was wrong lie in the context.
    let explained = |call| {
        let context = &context;
        move |errno| Failure { call, errno, detail: mount::fs_message(context).unwrap_or_default() }
    };
    mount::fsconfig(&context, c"source", Some(&asked.source)).map_err(explained("fsconfig"))?;
    for (key, value) in &asked.parameters {
        mount::fsconfig(&context, key, value.as_deref()).map_err(explained("fsconfig"))?;
    }
    let mut attributes = asked.attributes.set;
    if asked.copy_up {
        attributes &= !attr::RDONLY;
    }
    mount::fsmount(&context, attributes).map_err(explained("fsmount"))
}

/// mount(2), for parameters that are too long for fsconfig(2).
fn mount_by_path(asked: &FilesystemMount, target: &OwnedFd) -> Done {
    // The host's /proc is still in place, and the link leads to the descriptor, not along a path.
    let target = format!("/proc/self/fd/{}", target.as_raw_fd());
    let mut data = Vec::new();
    let mut flags = MsFlags::empty();
    for (key, value) in &asked.parameters {
        if let Some(flag) = superblock_flag(key) {
            flags |= flag;
            continue;
        }
        if !data.is_empty() {
            data.push(b',');
        }
        data.extend_from_slice(key.to_bytes());
        if let Some(value) = value {
            data.push(b'=');
            // A label has commas in it, which would end the option.
            let quote: &[u8] = if key.to_bytes().ends_with(b"context") { b"\"" } else { b"" };
            data.extend_from_slice(&[quote, value.to_bytes(), quote].concat());
        }
    }
    let data = path::c_string(&data).map_err(Failure::of("mount"))?;
    nix::mount::mount(
        Some(asked.source.as_c_str()),
        target.as_str(),
        Some(asked.fstype.as_c_str()),
        flags,
        Some(data.as_c_str()),
    )
    .map_err(Failure::of("mount"))
}

/// For mount(2), a flag of the superblock is none of the file system's own options.
fn superblock_flag(key: &CStr) -> Option<MsFlags> {
    Some(match key.to_bytes() {
        b"ro" => MsFlags::MS_RDONLY,
        b"rw" => MsFlags::empty(),
        b"sync" => MsFlags::MS_SYNCHRONOUS,
        b"dirsync" => MsFlags::MS_DIRSYNC,
        b"mand" => MsFlags::MS_MANDLOCK,
        b"lazytime" => MsFlags::MS_LAZYTIME,
        _ => return None,
    })
}

fn is_same_device(folder: &OwnedFd, name: &CStr, asked: &DeviceNode) -> bool {
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        stat.st_mode & libc::S_IFMT == asked.kind
            && stat.st_rdev == libc::makedev(asked.major, asked.minor)
    })
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
