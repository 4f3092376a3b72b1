//! Programs run from memory that nobody can write to.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;

/// A sealed copy of an executable: no write, no resize, no unsealing (CVE-2019-5736).
///
/// # Errors
/// What memfd_create(2), sendfile(2) or fcntl(2) answer.
pub fn sealed_copy(executable: &File) -> nix::Result<OwnedFd> {
    // MFD_EXEC says that executing is meant, where vm.memfd_noexec is set; older kernels do not know it.
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let exec = MFdFlags::from_bits_retain(0x10);
    let copy = match memfd_create(c"rscontainer", flags | exec) {
        Err(Errno::EINVAL) => memfd_create(c"rscontainer", flags)?,
        created => created?,
    };
    while sendfile(&copy, executable, None, 1 << 30)? > 0 {}
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy)
}

/// Whether a file is such a copy.
pub fn is_sealed(file: impl AsFd) -> bool {
    fcntl(file, FcntlArg::F_GET_SEALS).is_ok_and(|seals| {
        SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL)
    })
}
