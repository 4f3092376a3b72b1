//! Descriptors in bulk: what a program that is about to run may inherit.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// close_range(2): marks everything from `first` on close-on-exec (Linux ≥ 5.11).
pub fn close_on_exec_from(first: RawFd) -> nix::Result<()> {
    // Only flags change; no descriptor is closed under its owner.
    close_range(first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// close_range(2): closes everything from `first` on but `kept`.
///
/// For a process that was just cloned, whose copies of its parent's other
/// descriptors are not used or dropped any more: it ends in execve(2) or _exit(2).
pub fn close_all_but(first: RawFd, kept: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let mut kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let mut next = first;
    for fd in kept.into_iter().filter(|fd| *fd >= first) {
        if next < fd {
            close_range(next, (fd - 1) as libc::c_uint, 0)?;
        }
        next = fd + 1;
    }
    close_range(next, libc::c_uint::MAX, 0)
}

fn close_range(first: RawFd, last: libc::c_uint, flags: libc::c_uint) -> nix::Result<()> {
    // SAFETY: takes integers alone; what becomes of the descriptors' owners is said above, by the
    // two functions that call this one.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// dup2(2) onto a number of our choice, which must be 0, 1 or 2: the copy is inherited.
pub fn install_stdio(fd: impl AsFd, number: RawFd) -> nix::Result<()> {
    if !(0..=2).contains(&number) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: 0, 1 and 2 are owned by nobody in this program: std and we use them by number.
    check(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) }.into()).map(drop)
}

/// Standard input, output and error as descriptors that may be passed on.
pub fn stdio(number: RawFd) -> BorrowedFd<'static> {
    assert!((0..=2).contains(&number), "not a standard descriptor");
    // SAFETY: 0, 1 and 2 are never closed by this program; were one closed by whoever started it,
    // a use answers EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Copies a descriptor that a caller named by number; EBADF if there is none.
pub fn duplicate(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: takes integers alone; fcntl answers EBADF for a number that is not open.
    let fd = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) }.into())?;
    // SAFETY: the call succeeded and returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Takes over a descriptor that this program was started with; EBADF if there is none.
///
/// # Safety of its use
/// Called once for a number, by a program that was told it on its command line.
pub fn inherited(number: RawFd) -> nix::Result<OwnedFd> {
    let own = duplicate(number)?;
    close_range(number, number as libc::c_uint, 0)?;
    Ok(own)
}

/// FICLONE: lets an empty file share all blocks of another, where the file system can.
pub fn share_blocks(from: impl AsFd, to: impl AsFd) -> nix::Result<()> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: takes integers alone, both of them descriptors that are open.
    check(unsafe { libc::ioctl(to, libc::FICLONE, from) }.into()).map(drop)
}
