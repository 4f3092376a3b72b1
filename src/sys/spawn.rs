//! posix_spawn(3): a program started without copying this process.
//!
//! glibc clones with shared memory and suspends the parent until the exec, so
//! the cost does not grow with the parent, and no lock is inherited.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::clone::{CloneFlags, Cloned, SingleThreaded, Strings, clone3, execve, exit_now};
use super::privilege;

/// How the program starts, apart from its arguments.
#[derive(Debug, Default)]
pub struct SpawnOptions<'fd> {
    /// Descriptors and the numbers that they get; everything else closes on exec.
    pub fds: Vec<(BorrowedFd<'fd>, RawFd)>,
    /// Whether it leads a session of its own.
    pub new_session: bool,
}

/// posix_spawn(3) of `path`; signals at their defaults, none blocked.
pub fn spawn(
    path: &CStr,
    argv: &Strings,
    envp: &Strings,
    options: &SpawnOptions<'_>,
) -> nix::Result<Pid> {
    let attributes = Attributes::new(options.new_session)?;
    let actions = Actions::new(&options.fds)?;
    let mut pid: libc::pid_t = 0;
    // SAFETY: every pointer is valid and outlives the call; the arrays are NULL-terminated.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            path.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    done(error).map(|()| Pid::from_raw(pid))
}

/// The same, as a sibling of this process: its parent is the one that this process has. The stage of
/// an execve(2) that fails is not told of: the program then has ended at once.
pub fn spawn_sibling(
    proof: SingleThreaded,
    path: &CStr,
    argv: &Strings,
    envp: &Strings,
    options: &SpawnOptions<'_>,
) -> nix::Result<(Pid, OwnedFd)> {
    let flags = CloneFlags { sibling: true, ..CloneFlags::default() };
    match clone3(proof, &flags)? {
        Cloned::Parent(pid, process) => Ok((pid, process)),
        Cloned::Child => {
            let ready = options.fds.iter().try_for_each(|(fd, number)| inherit(*fd, *number));
            let led = if options.new_session { nix::unistd::setsid().map(drop) } else { Ok(()) };
            if ready.and(led).and_then(|()| privilege::reset_signals()).is_ok() {
                execve(path, argv, envp);
            }
            exit_now(127)
        }
    }
}

/// A descriptor by a number for the program: by its own, or by that of a standard stream.
fn inherit(fd: BorrowedFd<'_>, number: RawFd) -> nix::Result<()> {
    if fd.as_raw_fd() != number {
        return super::fds::install_stdio(fd, number);
    }
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).map(drop)
}

/// This family of functions returns the error number itself.
fn done(error: i32) -> nix::Result<()> {
    if error == 0 { Ok(()) } else { Err(Errno::from_raw(error)) }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new(new_session: bool) -> nix::Result<Self> {
        // SAFETY: plain data, initialised in the next call.
        let mut attributes = Attributes(unsafe { std::mem::zeroed() });
        let raw = &raw mut attributes.0;
        // SAFETY: raw points to storage for the type.
        done(unsafe { libc::posix_spawnattr_init(raw) })?;
        let mut flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        if new_session {
            flags |= i32::from(libc::POSIX_SPAWN_SETSID);
        }
        // SAFETY: raw is initialised.
        done(unsafe { libc::posix_spawnattr_setflags(raw, flags as libc::c_short) })?;
        let all = nix::sys::signal::SigSet::all();
        let none = nix::sys::signal::SigSet::empty();
        // SAFETY: raw is initialised, the set valid.
        done(unsafe { libc::posix_spawnattr_setsigdefault(raw, all.as_ref()) })?;
        // SAFETY: raw is initialised, the set valid.
        done(unsafe { libc::posix_spawnattr_setsigmask(raw, none.as_ref()) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in new().
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(fds: &[(BorrowedFd<'_>, RawFd)]) -> nix::Result<Self> {
        // SAFETY: plain data, initialised in the next call.
        let mut actions = Actions(unsafe { std::mem::zeroed() });
        let raw = &raw mut actions.0;
        // SAFETY: raw points to storage for the type.
        done(unsafe { libc::posix_spawn_file_actions_init(raw) })?;
        for (fd, number) in fds {
            let fd = fd.as_fd().as_raw_fd();
            // SAFETY: raw is initialised; a dup2 onto itself clears close-on-exec, as we want.
            done(unsafe { libc::posix_spawn_file_actions_adddup2(raw, fd, *number) })?;
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in new().
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}
