//! The folder of the socket on which a container's program says that it is ready.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Folder, Root};
use crate::error::{Error, Result};

const FOLDER: &str = "notify";
/// The socket's name in there.
pub const NOTIFY_SOCKET: &str = "notify.sock";

impl Root {
    /// Where the folder with that socket is, of the container with this id.
    pub fn notify(&self, id: &str) -> PathBuf {
        self.path().join(id).join(FOLDER)
    }
}

impl Folder {
    /// Makes the folder that the container sees.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_notify(&self) -> Result<()> {
        let failed = |call, errno| Error::path_call(call, self.path().join(FOLDER), errno);
        // Whoever the container's program is has to get in, whatever the umask.
        let mode = Mode::from_bits_truncate(0o755);
        mkdirat(self, FOLDER, mode).map_err(|errno| failed("mkdir", errno))?;
        fchmodat(self, FOLDER, mode, FchmodatFlags::FollowSymlink)
            .map_err(|errno| failed("fchmodat", errno))
    }

    /// Whether the container was created with that folder.
    pub fn has_notify(&self) -> bool {
        self.path().join(FOLDER).is_dir()
    }

    /// Listens there.
    ///
    /// # Errors
    /// There is no such folder, or a socket in it.
    pub fn listen_notify(&self) -> Result<UnixDatagram> {
        let shown = self.path().join(FOLDER).join(NOTIFY_SOCKET);
        // An address has room for 108 bytes of path; through the descriptor any folder fits.
        let path = format!("/proc/self/fd/{}/{FOLDER}/{NOTIFY_SOCKET}", self.as_fd().as_raw_fd());
        let socket =
            UnixDatagram::bind(&path).map_err(|error| Error::io("bind", &shown, &error))?;
        fchmodat(
            nix::fcntl::AT_FDCWD,
            path.as_str(),
            Mode::from_bits_truncate(0o777),
            FchmodatFlags::FollowSymlink,
        )
        .map_err(|errno| Error::path_call("fchmodat", &shown, errno))?;
        Ok(socket)
    }

    /// Removes the folder; none is as good.
    pub(super) fn remove_notify(&self) -> Result<()> {
        let socket = format!("{FOLDER}/{NOTIFY_SOCKET}");
        for (path, flag) in
            [(socket.as_str(), UnlinkatFlags::NoRemoveDir), (FOLDER, UnlinkatFlags::RemoveDir)]
        {
            match unlinkat(self, path, flag) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => {
                    return Err(Error::path_call("unlinkat", self.path().join(path), errno));
                }
            }
        }
        Ok(())
    }
}
