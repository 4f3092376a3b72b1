//! Pseudo-terminals, opened inside the container's own devpts.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::check;

/// One ioctl(2) whose argument is a pointer that the request reads or writes through.
fn ioctl<T>(fd: impl AsFd, request: libc::Ioctl, argument: *mut T) -> nix::Result<()> {
    // SAFETY: private to this file, whose requests are each paired with their argument's type; the
    // pointer comes from a reference that outlives the call.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, argument) }.into()).map(drop)
}

/// A window's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Unlocks the pair of an open `/dev/ptmx` and opens its other end.
///
/// By ioctl `TIOCGPTPEER`, not by the name in `/dev/pts`, which the rootfs
/// might have put something else at.
pub fn open_peer(ptmx: impl AsFd) -> nix::Result<OwnedFd> {
    let mut locked: libc::c_int = 0;
    ioctl(&ptmx, libc::TIOCSPTLCK, &raw mut locked)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags and returns a descriptor.
    let peer = unsafe { libc::ioctl(ptmx.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let peer = check(peer.into())?;
    // SAFETY: the call succeeded and returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(peer as i32) })
}

/// Makes a terminal the controlling one of this session, unless another has it.
pub fn make_controlling(terminal: impl AsFd) -> nix::Result<()> {
    ioctl(terminal, libc::TIOCSCTTY, std::ptr::null_mut::<libc::c_void>())
}

/// The window's size; ENOTTY where it is no terminal.
pub fn size(terminal: impl AsFd) -> nix::Result<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    ioctl(terminal, libc::TIOCGWINSZ, &raw mut size)?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the window's size; the foreground processes are told by SIGWINCH.
pub fn resize(terminal: impl AsFd, size: Size) -> nix::Result<()> {
    let mut size =
        libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    ioctl(terminal, libc::TIOCSWINSZ, &raw mut size)
}
