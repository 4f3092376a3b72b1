//! Programs run from memory that nobody can write to.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;

use super::check;

/// A sealed copy of an executable: no write, no resize, no unsealing (CVE-2019-5736).
///
/// # Errors
/// What memfd_create(2), sendfile(2) or fcntl(2) answer.
pub fn sealed_copy(executable: &File) -> nix::Result<OwnedFd> {
    sealed(|copy| {
        while sendfile(copy, executable, None, 1 << 30)? > 0 {}
        Ok(())
    })
}

/// The same of an executable that is in memory already.
///
/// # Errors
/// What memfd_create(2), write(2) or fcntl(2) answer.
pub fn sealed_image(executable: &[u8]) -> nix::Result<OwnedFd> {
    // Mapped in one go: page by page, by faults, takes as long again as the copy.
    let _ = populate(executable);
    sealed(|copy| {
        let mut rest = executable;
        while !rest.is_empty() {
            rest = &rest[nix::unistd::write(copy, rest)?..];
        }
        Ok(())
    })
}

/// madvise(2) `MADV_POPULATE_READ` (Linux ≥ 5.14).
fn populate(bytes: &[u8]) -> nix::Result<()> {
    const PAGE: usize = 4096;
    let start = bytes.as_ptr() as usize / PAGE * PAGE;
    let length = bytes.as_ptr() as usize + bytes.len() - start;
    // SAFETY: reads pages that are mapped for the slice, and changes nothing of what they hold.
    check(unsafe { libc::madvise(start as *mut _, length, libc::MADV_POPULATE_READ) }.into())
        .map(drop)
}

fn sealed(fill: impl FnOnce(&OwnedFd) -> nix::Result<()>) -> nix::Result<OwnedFd> {
    // MFD_EXEC says that executing is meant, where vm.memfd_noexec is set; older kernels do not know it.
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let exec = MFdFlags::from_bits_retain(0x10);
    let copy = match memfd_create(c"rscontainer", flags | exec) {
        Err(Errno::EINVAL) => memfd_create(c"rscontainer", flags)?,
        created => created?,
    };
    fill(&copy)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    // EBUSY: something holds on to a page that was just written, as the kernel's own lists do for a
    // moment. The call has waited already each time that it says so.
    const ATTEMPTS: usize = 8;
    for _ in 1..ATTEMPTS {
        match fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)) {
            Err(Errno::EBUSY) => {}
            sealed => return sealed.map(|_| copy),
        }
    }
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).map(|_| copy)
}
