//! Extended attributes: of an open file, of a name that is not followed, and marks on a folder.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;

use super::check;

/// fsetxattr(2).
pub fn set(file: impl AsFd, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the name is NUL-terminated and the value is read for no more than its length.
    check(
        unsafe {
            libc::fsetxattr(
                file.as_fd().as_raw_fd(),
                name.as_ptr(),
                value.as_ptr().cast(),
                value.len(),
                0,
            )
        }
        .into(),
    )
    .map(drop)
}

/// lsetxattr(2) on a name in an open folder.
pub fn set_at(folder: impl AsFd, entry: &CStr, name: &CStr, value: &[u8]) -> nix::Result<()> {
    let path = in_folder(folder, entry)?;
    // SAFETY: both strings are NUL-terminated and the value is read for no more than its length.
    check(
        unsafe {
            libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
        }
        .into(),
    )
    .map(drop)
}

/// Every attribute of an open file with its value.
pub fn all(file: impl AsFd) -> nix::Result<Vec<(CString, Vec<u8>)>> {
    let fd = file.as_fd().as_raw_fd();
    let names = filled(|buffer| {
        // SAFETY: the kernel writes no more than the length of the buffer.
        unsafe { libc::flistxattr(fd, buffer.as_mut_ptr().cast(), buffer.len()) }
    })?;
    valued(&names, |name, buffer| {
        // SAFETY: as above; the name is NUL-terminated.
        unsafe { libc::fgetxattr(fd, name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

/// Every attribute of a name in an open folder with its value.
pub fn all_at(folder: impl AsFd, entry: &CStr) -> nix::Result<Vec<(CString, Vec<u8>)>> {
    let path = in_folder(folder, entry)?;
    let names = filled(|buffer| {
        // SAFETY: the path is NUL-terminated; no more than the buffer's length is written.
        unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })?;
    valued(&names, |name, buffer| {
        let (path, name, length) = (path.as_ptr(), name.as_ptr(), buffer.len());
        // SAFETY: as above, and so is the name.
        unsafe { libc::lgetxattr(path, name, buffer.as_mut_ptr().cast(), length) }
    })
}

/// There is no lsetxattrat before Linux 6.13; the magic link names the folder that is open.
fn in_folder(folder: impl AsFd, entry: &CStr) -> nix::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(entry.to_bytes());
    super::path::c_string(&path)
}

fn valued(
    names: &[u8],
    mut get: impl FnMut(&CStr, &mut [u8]) -> libc::ssize_t,
) -> nix::Result<Vec<(CString, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = super::path::c_string(name)?;
        match filled(|buffer| get(&name, buffer)) {
            Ok(value) => found.push((name, value)),
            // Listed, and gone since.
            Err(Errno::ENODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

/// The common case, nothing or little, is one call; no attribute is larger than the second try.
fn filled(mut read: impl FnMut(&mut [u8]) -> libc::ssize_t) -> nix::Result<Vec<u8>> {
    const USUAL: usize = 256;
    const LARGEST: usize = 65536;
    let mut buffer = vec![0; USUAL];
    loop {
        match check(read(&mut buffer) as libc::c_long) {
            Ok(length) => {
                buffer.truncate(length as usize);
                return Ok(buffer);
            }
            Err(Errno::ERANGE) if buffer.len() < LARGEST => buffer.resize(LARGEST, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// setxattr(2) with an empty value.
pub fn mark(path: &Path, name: &CStr) -> nix::Result<()> {
    path.with_nix_path(|path| {
        let nothing = std::ptr::null::<libc::c_void>();
        // SAFETY: both strings are NUL-terminated; no byte of the value is read, for it has none.
        check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), nothing, 0, 0) }.into())
            .map(drop)
    })?
}

/// getxattr(2): whether the mark is there.
pub fn is_marked(path: &Path, name: &CStr) -> bool {
    let found = path.with_nix_path(|path| {
        let nowhere = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: both strings are NUL-terminated; a size of 0 asks for the length alone.
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), nowhere, 0) }
    });
    found.is_ok_and(|length| length >= 0)
}
