//! What of a container's tree is the host's, as its plan says: criu neither writes nor makes it, and
//! is told where it is instead.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::step::Step;
use crate::sys::path;

/// A mount that shows a part of the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct External {
    /// Where the config has it; links may lead elsewhere.
    target: CString,
    /// What it shows.
    source: CString,
    /// A mask: one of a file shows this source, one of a folder is none of the host's.
    mask: bool,
}

impl External {
    /// All of a container's.
    pub(super) fn of(plan: &Plan) -> Vec<Self> {
        plan.steps.iter().filter_map(|planned| Self::by(&planned.step)).collect()
    }

    fn by(step: &Step) -> Option<Self> {
        let shown = |target: &CStr, source: &CStr, mask| {
            Some(External { target: target.to_owned(), source: source.to_owned(), mask })
        };
        match step {
            Step::Bind(bind) => shown(&bind.target, &bind.source, false),
            Step::Device(device) if device.bind => shown(&device.path, &device.path, false),
            Step::Mask(path) => shown(path, c"/dev/null", true),
            _ => None,
        }
    }

    /// As criu is told when it writes the processes of a container with this root: the mount has its
    /// place there and a name for the images; none where the container has it no more.
    pub(super) fn for_dump(&self, root: impl AsFd) -> Result<Option<Vec<u8>>> {
        let failed = |call: &str, errno| {
            Error::path_call(call, self.target.to_string_lossy().as_ref(), errno)
        };
        let found = match path::open_in(root, &self.target, OFlag::O_PATH) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            found => found.map_err(|errno| failed("openat2", errno))?,
        };
        let kind = fstat(&found).map_err(|errno| failed("fstat", errno))?.st_mode;
        if self.mask && SFlag::from_bits_truncate(kind & libc::S_IFMT) == SFlag::S_IFDIR {
            return Ok(None);
        }
        // Through no link, as criu finds it in the container's mountinfo.
        let own = format!("/proc/self/fd/{}", found.as_raw_fd());
        let place =
            std::fs::read_link(&own).map_err(|error| Error::io("readlink", &own, &error))?;
        Ok(Some(mount(place.as_os_str().as_bytes(), self.name())))
    }

    /// As criu is told when it brings the processes back: what has this name is there.
    pub(super) fn for_restore(&self) -> Vec<u8> {
        mount(self.name(), self.source.to_bytes())
    }

    fn name(&self) -> &[u8] {
        if self.mask { self.source.to_bytes() } else { self.target.to_bytes() }
    }
}

fn mount(key: &[u8], value: &[u8]) -> Vec<u8> {
    [b"mnt[", key, b"]:", value].concat()
}
