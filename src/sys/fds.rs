//! Descriptors in bulk: what a program that is about to run may inherit.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// close_range(2): marks everything from `first` on close-on-exec (Linux ≥ 5.11).
pub fn close_on_exec_from(first: RawFd) -> nix::Result<()> {
    // SAFETY: only flags change; no descriptor is closed under its owner.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })
    .map(drop)
}

/// Closes everything from `first` on but `kept`, for a child that goes its own way.
///
/// What else this copy of the process believes to own is lost, so nobody may use it any more: the
/// child must end in an exec or an exit without running destructors.
pub fn close_all_but(first: RawFd, kept: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let mut kept: Vec<RawFd> =
        kept.iter().map(AsRawFd::as_raw_fd).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    let mut next = first;
    for end in kept.into_iter().map(Some).chain([None]) {
        let last = end.map_or(RawFd::MAX, |end| end - 1);
        if next <= last {
            // SAFETY: by this function's contract nobody uses what is closed here.
            check(unsafe { libc::syscall(libc::SYS_close_range, next, last, 0) })?;
        }
        next = last.saturating_add(2);
    }
    Ok(())
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

/// close(2) of what a cloned child has of its parent's and must not keep, and never returns to.
pub fn close_parents(fds: &[BorrowedFd<'_>]) {
    for fd in fds {
        // SAFETY: called in a child with memory of its own that ends in exec or exit: the owners
        // of these numbers in that memory are never used or dropped.
        unsafe { libc::close(fd.as_raw_fd()) };
    }
}

/// Copies a descriptor that a caller named by number; EBADF if there is none.
pub fn duplicate(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: takes integers alone; fcntl answers EBADF for a number that is not open.
    let fd = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) }.into())?;
    // SAFETY: the call succeeded and returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Takes over a descriptor that this process was started with; once for each number.
pub fn inherited(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: takes integers alone.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, and by this function's contract nobody else took it over.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// FICLONE: lets an empty file share all blocks of another, where the file system can.
pub fn share_blocks(from: impl AsFd, to: impl AsFd) -> nix::Result<()> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: takes integers alone, both of them descriptors that are open.
    check(unsafe { libc::ioctl(to, libc::FICLONE, from) }.into()).map(drop)
}
