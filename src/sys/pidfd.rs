//! Processes by descriptor: a number may be reused, a descriptor never is.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::check;

/// pidfd_open(2).
pub fn open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes integers alone.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the call succeeded and returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// pidfd_send_signal(2); signal 0 asks whether the process is there.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> nix::Result<()> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open; no siginfo is passed.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, nothing, 0)
    })
    .map(drop)
}

/// setns(2) by pidfd: joins several of the process's namespaces at once (Linux ≥ 5.8).
pub fn setns(fd: impl AsFd, namespaces: i32) -> nix::Result<()> {
    // SAFETY: the descriptor is open; the rest are integers.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_fd().as_raw_fd(), namespaces) }).map(drop)
}

/// A process's end, as wait(2) encodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// The exit code, or the negated signal: subprocess's `returncode`.
    pub fn returncode(self) -> i32 {
        match self.0 & 0x7f {
            0 => (self.0 >> 8) & 0xff,
            signal => -signal,
        }
    }

    /// The exit code as a shell reports it: 128 and the signal.
    pub fn shell_code(self) -> i32 {
        match self.returncode() {
            signal if signal < 0 => 128 - signal,
            code => code,
        }
    }
}

/// waitid(2) on a child by descriptor; none while it runs and `block` is false.
pub fn reap(pidfd: impl AsFd, block: bool) -> nix::Result<Option<WaitStatus>> {
    let options = libc::WEXITED | if block { 0 } else { libc::WNOHANG };
    // SAFETY: siginfo_t is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = pidfd.as_fd().as_raw_fd() as libc::id_t;
    loop {
        // SAFETY: info is valid and outlives the call.
        let done = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, options) };
        match check(done.into()) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => break,
        }
    }
    // SAFETY: waitid filled in a SIGCHLD siginfo, or left it zeroed, for which 0 is right.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok(Some(WaitStatus(match info.si_code {
        libc::CLD_EXITED => status << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    })))
}

/// Waits until a process has ended; whoever is its parent may reap it then.
pub fn await_end(pidfd: impl AsFd) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

/// The end of a process that need not be our child (ioctl `PIDFD_GET_INFO`, Linux ≥ 6.15).
///
/// None while it runs, and where the kernel cannot tell.
pub fn exit_info(pidfd: impl AsFd) -> Option<WaitStatus> {
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroupid: u64,
        // pid, tgid, ppid, and the eight of uid and gid
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xFF, 11, struct pidfd_info), of the size of the first version that has exit_code.
    const SIZE: usize = std::mem::size_of::<PidfdInfo>();
    let request = nix::request_code_readwrite!(0xFF, 11, SIZE);
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: info is valid for the size that the request encodes, and outlives the call.
    let done =
        unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), request, std::ptr::from_mut(&mut info)) };
    (done == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(WaitStatus(info.exit_code))
}
