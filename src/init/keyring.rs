//! The session keyring that the container's processes share.

use std::ffi::CStr;

use nix::errno::Errno;

use super::{Done, Failure, process};
use crate::sys::keyring;

/// Joins it; `permissions` are added to those that a new one has.
pub(super) fn join(name: &CStr, permissions: Option<u32>, label: Option<&CStr>) -> Done {
    if let Some(label) = label {
        process::write_key_label(label.to_bytes())?;
    }
    let key = match keyring::join_session(name) {
        // A kernel without keys has none to keep apart; a filter that hides the call hides them.
        Err(Errno::ENOSYS | Errno::EPERM) => None,
        key => Some(key.map_err(Failure::of("keyctl"))?),
    };
    if label.is_some() {
        process::write_key_label(b"")?;
    }
    let (Some(key), Some(added)) = (key, permissions) else { return Ok(()) };
    let own = keyring::permissions(key).map_err(Failure::of("keyctl"))?;
    keyring::set_permissions(key, own | added).map_err(Failure::of("keyctl"))
}
