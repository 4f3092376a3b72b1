//! Device nodes and the links beside them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, mknodat};
use nix::unistd::{UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::mounts::FOLDER_MODE;
use super::{Child, Done, Failure, propagation};
use crate::plan::step::DeviceNode;
use crate::sys::{mount, path};

impl Child<'_> {
    pub(super) fn device(&self, asked: &DeviceNode) -> Done {
        if asked.bind {
            return self.show_device(asked);
        }
        let (folder, name) = path::split(&asked.path).map_err(Failure::of("mknodat"))?;
        let folder = path::make_dir_in(self.root()?, &folder, FOLDER_MODE)
            .map_err(Failure::of("mkdirat"))?;
        let kind = SFlag::from_bits_truncate(asked.kind);
        let number = libc::makedev(asked.major, asked.minor);
        let mode = Mode::from_bits_truncate(asked.mode);
        match mknodat(&folder, name.as_c_str(), kind, mode, number) {
            // The mode is exact, for the umask is 0, and the owner is who made it.
            Ok(()) if (asked.uid, asked.gid) == (0, 0) => Ok(()),
            Ok(()) => settle(&folder, &name, asked),
            Err(Errno::EEXIST) => settle(&folder, &name, asked),
            Err(errno) => Err(Failure::new("mknodat", errno)),
        }
    }

    /// The host's own node, with the mode and the owner that it has there.
    fn show_device(&self, asked: &DeviceNode) -> Done {
        let host =
            mount::clone_tree(AT_FDCWD, &asked.path, false).map_err(Failure::of("open_tree"))?;
        if !is_device(&fstat(&host).map_err(Failure::of("fstat"))?, asked) {
            let detail = "the host has another device there".to_owned();
            return Err(Failure { call: "fstat", errno: Errno::ENODEV, detail });
        }
        propagation::set_slave(&host)?;
        let target = self.target_like(&host, &asked.path)?;
        mount::attach(host, target).map_err(Failure::of("move_mount"))
    }

    pub(super) fn link(&self, target: &CStr, path: &CStr, replace: bool) -> Done {
        let (folder, name) = path::split(path).map_err(Failure::of("symlinkat"))?;
        let folder = path::make_dir_in(self.root()?, &folder, FOLDER_MODE)
            .map_err(Failure::of("mkdirat"))?;
        let make = || match symlinkat(target, &folder, name.as_c_str()) {
            Err(Errno::EEXIST) => Ok(false),
            made => made.map(|()| true).map_err(Failure::of("symlinkat")),
        };
        if make()? || !replace {
            return Ok(());
        }
        let there = nix::fcntl::readlinkat(&folder, name.as_c_str());
        if there.is_ok_and(|there| there.as_encoded_bytes() == target.to_bytes()) {
            return Ok(());
        }
        unlinkat(&folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir)
            .map_err(Failure::of("unlinkat"))?;
        make().map(drop)
    }
}

fn is_device(stat: &FileStat, asked: &DeviceNode) -> bool {
    let fifo = asked.kind == libc::S_IFIFO;
    stat.st_mode & libc::S_IFMT == asked.kind
        && (fifo || stat.st_rdev == libc::makedev(asked.major, asked.minor))
}

/// Gives a node that is there its owner and mode, once it is seen to be what was asked for.
fn settle(folder: &OwnedFd, name: &CStr, asked: &DeviceNode) -> Done {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let node = openat(folder, name, flags, Mode::empty()).map_err(Failure::of("openat"))?;
    let stat = fstat(&node).map_err(Failure::of("fstat"))?;
    if !is_device(&stat, asked) {
        return Err(Failure::new("mknodat", Errno::EEXIST));
    }
    if asked.keep {
        return Ok(());
    }
    if (stat.st_uid, stat.st_gid) != (asked.uid, asked.gid) {
        let (uid, gid) = (Some(asked.uid.into()), Some(asked.gid.into()));
        fchownat(&node, c"", uid, gid, AtFlags::AT_EMPTY_PATH).map_err(Failure::of("fchownat"))?;
    }
    if stat.st_mode & 0o7777 == asked.mode {
        return Ok(());
    }
    // fchmod(2) does not take such a descriptor, but the link in the host's /proc leads to its file.
    let link = format!("/proc/self/fd/{}", node.as_raw_fd());
    let mode = Mode::from_bits_truncate(asked.mode);
    fchmodat(AT_FDCWD, link.as_str(), mode, FchmodatFlags::FollowSymlink)
        .map_err(Failure::of("fchmodat"))
}
