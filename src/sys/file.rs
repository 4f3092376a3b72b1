//! Reading into memory that nobody has cleared before.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::check;

/// read(2) of a file into the room that a vector has left, which is cleared neither before nor after,
/// once more where a signal came in between; how much was read.
///
/// # Errors
/// What read(2) answers.
pub fn read_into(file: impl AsFd, bytes: &mut Vec<u8>) -> nix::Result<usize> {
    let file = file.as_fd().as_raw_fd();
    let room = bytes.spare_capacity_mut();
    let read = loop {
        // SAFETY: the kernel writes into the room alone, which is the vector's, and no further.
        match check(unsafe { libc::read(file, room.as_mut_ptr().cast(), room.len()) } as _) {
            Err(Errno::EINTR) => {}
            read => break usize::try_from(read?).unwrap_or_default(),
        }
    };
    // SAFETY: the kernel has written so many bytes of the room.
    unsafe { bytes.set_len(bytes.len() + read) };
    Ok(read)
}
