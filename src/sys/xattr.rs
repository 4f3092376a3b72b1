//! Marks on a directory that outlive the process that set them.

use std::ffi::CStr;
use std::path::Path;

use nix::NixPath;

use super::check;

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
