//! keyctl(2): the keyring that a session of processes shares.

use std::ffi::CStr;

use nix::errno::Errno;

use super::check;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;
const KEYCTL_DESCRIBE: libc::c_int = 6;

/// A key or keyring by its number.
#[derive(Debug, Clone, Copy)]
pub struct Key(libc::c_long);

/// Leaves this process's session keyring for the one of that name, which is made if there is none
/// that it may search.
pub fn join_session(name: &CStr) -> nix::Result<Key> {
    // SAFETY: this operation takes a string, which is NUL-terminated and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })
        .map(Key)
}

/// Who may do what with a key, `KEY_…` bits.
pub fn permissions(key: Key) -> nix::Result<u32> {
    // Type, owner, group, permissions in hexadecimal, description, with a `;` between them.
    let mut text = [0_u8; 512];
    let length = text.len();
    // SAFETY: the kernel fills in at most the length that is passed, which is that of text.
    let filled = check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, key.0, text.as_mut_ptr(), length)
    })?;
    // It says the length that it has, and fills in nothing where that is too much.
    let text = text.get(..filled as usize).ok_or(Errno::EOVERFLOW)?;
    let text = String::from_utf8_lossy(text);
    let bits = text.split(';').nth(3).ok_or(Errno::EBADMSG)?;
    u32::from_str_radix(bits, 16).map_err(|_| Errno::EBADMSG)
}

/// Sets them.
pub fn set_permissions(key: Key, bits: u32) -> nix::Result<()> {
    // SAFETY: this operation takes integers alone.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key.0, bits) }).map(drop)
}
