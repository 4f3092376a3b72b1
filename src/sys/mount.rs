//! The mount calls that act on descriptors (Linux ≥ 5.2, mount_setattr ≥ 5.12).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::check;

/// `MOUNT_ATTR_*` of mount_setattr(2).
#[allow(missing_docs, reason = "named as in mount_setattr(2)")]
pub mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    pub const ATIME_MASK: u64 = 0x70;
    pub const RELATIME: u64 = 0x0;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const IDMAP: u64 = 0x10_0000;
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountAttr {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE` or `MS_UNBINDABLE`; 0 leaves it.
    pub propagation: u64,
    /// For `attr::IDMAP`.
    pub userns_fd: u64,
}

fn owned(value: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = check(value)?;
    // SAFETY: the call succeeded and returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// open_tree(2) with a clone: a detached copy of the mount at `path` below `dir`.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> nix::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let mut flags =
        OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: dir is open and path NUL-terminated for the duration of the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// move_mount(2) of a detached mount onto the object that `target` refers to.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> nix::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
    const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
    // SAFETY: both descriptors are open and the paths are static.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// fsopen(2).
pub fn fsopen(fstype: &CStr) -> nix::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    // SAFETY: fstype is NUL-terminated for the duration of the call.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })
}

/// fspick(2): a context of the file system that is mounted there.
pub fn fspick(mount: impl AsFd) -> nix::Result<OwnedFd> {
    const FSPICK_CLOEXEC: libc::c_uint = 1;
    const FSPICK_EMPTY_PATH: libc::c_uint = 8;
    // SAFETY: the descriptor is open and the path static.
    owned(unsafe {
        libc::syscall(
            libc::SYS_fspick,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            FSPICK_CLOEXEC | FSPICK_EMPTY_PATH,
        )
    })
}

/// fsconfig(2) `FSCONFIG_CMD_RECONFIGURE` of what [`fspick`] picked.
pub fn reconfigure(context: impl AsFd) -> nix::Result<()> {
    const FSCONFIG_CMD_RECONFIGURE: libc::c_uint = 7;
    let null = std::ptr::null::<libc::c_char>();
    let context = context.as_fd().as_raw_fd();
    // SAFETY: this command takes no key and no value; the context is open.
    check(unsafe {
        libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_CMD_RECONFIGURE, null, null, 0)
    })
    .map(drop)
}

/// fsconfig(2): a flag where `value` is none, else a string.
pub fn fsconfig(context: impl AsFd, key: &CStr, value: Option<&CStr>) -> nix::Result<()> {
    const FSCONFIG_SET_FLAG: libc::c_uint = 0;
    const FSCONFIG_SET_STRING: libc::c_uint = 1;
    let (command, value) = match value {
        Some(value) => (FSCONFIG_SET_STRING, value.as_ptr()),
        None => (FSCONFIG_SET_FLAG, std::ptr::null()),
    };
    // SAFETY: key and value are NUL-terminated (or NULL for a flag) for the duration of the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_fd().as_raw_fd(),
            command,
            key.as_ptr(),
            value,
            0,
        )
    })
    .map(drop)
}

/// fsconfig(2) `FSCONFIG_CMD_CREATE`, then fsmount(2): a detached mount of what was configured.
pub fn fsmount(context: impl AsFd, attributes: u64) -> nix::Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    let null = std::ptr::null::<libc::c_char>();
    let context = context.as_fd().as_raw_fd();
    // SAFETY: this command takes no key and no value; the context is open.
    check(unsafe {
        libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, null, null, 0)
    })?;
    // SAFETY: takes integers alone; the context is open.
    owned(unsafe {
        libc::syscall(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes as libc::c_uint)
    })
}

/// What the kernel says of a failed [`fsopen`] context, such as `e tmpfs: Bad value for 'size'`.
pub fn fs_message(context: impl AsFd) -> Option<String> {
    let mut buffer = [0; 256];
    let read = nix::unistd::read(context, &mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..read]).trim().to_owned())
}

/// mount_setattr(2) on the mount that `mount` refers to.
pub fn set_attributes(
    mount: impl AsFd,
    attributes: &MountAttr,
    recursive: bool,
) -> nix::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: attributes has the layout of struct mount_attr and its size is passed along.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            std::mem::size_of::<MountAttr>(),
        )
    })
    .map(drop)
}
