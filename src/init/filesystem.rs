//! New file systems, and mounted ones with other parameters.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::{Done, Failure};
use crate::plan::step::FilesystemMount;
use crate::sys::mount::{self, attr};
use crate::sys::path;

/// fsconfig(2) takes values of up to 255 bytes; an overlay's lowerdir may be longer.
const LONGEST_PARAMETER: usize = 255;

type Parameter = (CString, Option<CString>);

/// The kernel's own words on what was wrong lie in the context.
fn explained(context: &OwnedFd, call: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { call, errno, detail: mount::fs_message(context).unwrap_or_default() }
}

fn configure(context: &OwnedFd, parameters: &[Parameter]) -> Done {
    parameters.iter().try_for_each(|(key, value)| {
        mount::fsconfig(context, key, value.as_deref()).map_err(explained(context, "fsconfig"))
    })
}

/// A new file system, mounted nowhere yet.
pub(super) fn new(asked: &FilesystemMount, mode: Option<CString>) -> Result<OwnedFd, Failure> {
    let context = mount::fsopen(&asked.fstype).map_err(Failure::of("fsopen"))?;
    mount::fsconfig(&context, c"source", Some(&asked.source))
        .map_err(explained(&context, "fsconfig"))?;
    if let Some(mode) = mode {
        mount::fsconfig(&context, c"mode", Some(&mode)).map_err(explained(&context, "fsconfig"))?;
    }
    configure(&context, &asked.parameters)?;
    let mut attributes = asked.attributes.set;
    if asked.copy_up {
        attributes &= !attr::RDONLY;
    }
    mount::fsmount(&context, attributes).map_err(explained(&context, "fsmount"))
}

/// Changes parameters of the file system that is mounted at `mounted`.
pub(super) fn reconfigure(mounted: &OwnedFd, parameters: &[Parameter]) -> Done {
    if parameters.is_empty() {
        return Ok(());
    }
    let context = mount::fspick(mounted).map_err(Failure::of("fspick"))?;
    configure(&context, parameters)?;
    mount::reconfigure(&context).map_err(explained(&context, "fsconfig"))
}

/// Whether only mount(2) takes these parameters.
pub(super) fn needs_mount(asked: &FilesystemMount) -> bool {
    asked.parameters.iter().any(|(key, value)| {
        key.as_c_str() == c"iversion"
            || value.as_ref().is_some_and(|value| value.count_bytes() > LONGEST_PARAMETER)
    })
}

/// mount(2), for parameters that fsconfig(2) does not take.
pub(super) fn mount(asked: &FilesystemMount, mode: Option<CString>, target: &OwnedFd) -> Done {
    // The host's /proc is still in place, and the link leads to the descriptor, not along a path.
    let target = format!("/proc/self/fd/{}", target.as_raw_fd());
    let mut data = Vec::new();
    let mut flags = MsFlags::empty();
    let mode = mode.map(|mode| (c"mode".to_owned(), Some(mode)));
    for (key, value) in mode.iter().chain(&asked.parameters) {
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
        b"sync" => MsFlags::MS_SYNCHRONOUS,
        b"dirsync" => MsFlags::MS_DIRSYNC,
        b"mand" => MsFlags::MS_MANDLOCK,
        b"lazytime" => MsFlags::MS_LAZYTIME,
        b"iversion" => MsFlags::MS_I_VERSION,
        b"rw" | b"async" | b"nomand" | b"nolazytime" | b"noiversion" => MsFlags::empty(),
        _ => return None,
    })
}
