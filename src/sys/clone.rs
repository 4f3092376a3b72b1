//! clone3(2), for a process that has one thread.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check;

/// Proof that this process had one thread when it was asked.
///
/// A child cloned from a process with several threads may find a lock held by
/// a thread that it did not inherit, the allocator's above all. Only the
/// launcher and the command line, which start no thread before they clone, can
/// show this proof; Python cannot.
#[derive(Debug, Clone, Copy)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Asks whether this process has one thread; none if there are several.
    pub fn prove() -> Option<Self> {
        // unshare(2) does nothing for a process that shares its memory with nobody, and refuses one
        // that does: with a thread, or for a moment with a program that it has just spawned. It may
        // be filtered, too.
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_THREAD).is_ok() {
            return Some(SingleThreaded(()));
        }
        let threads = std::fs::read_dir("/proc/self/task").ok()?.count();
        (threads == 1).then_some(SingleThreaded(()))
    }
}

/// Who returns from [`clone3`].
#[derive(Debug)]
pub enum Cloned {
    /// This is the child.
    Child,
    /// This is the parent; the descriptor refers to the child for good, where its number may be reused.
    Parent(Pid, OwnedFd),
}

/// What the child is born into.
#[derive(Debug, Default)]
pub struct CloneFlags<'fd> {
    /// `CLONE_NEW…`
    pub namespaces: u64,
    /// Make the child a sibling: the launcher, not the process that serves one request, is its parent.
    pub sibling: bool,
    /// A directory of the unified hierarchy that the child is born in (Linux ≥ 5.7).
    pub cgroup: Option<BorrowedFd<'fd>>,
}

/// clone3(2) without shared memory, so a fork with namespaces.
pub fn clone3(_proof: SingleThreaded, wanted: &CloneFlags<'_>) -> nix::Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let mut flags = libc::CLONE_PIDFD as u64 | wanted.namespaces;
    // SAFETY: clone_args is plain integers, for which zero means "absent".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    if wanted.sibling {
        // The exit signal is then the one of the sibling, and must be left at 0.
        flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = &wanted.cgroup {
        flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    args.flags = flags;
    args.pidfd = &raw mut pidfd as u64;
    // SAFETY: args is valid for its size and outlives the call, pidfd likewise; without CLONE_VM
    // the child runs on a copy of this stack; one thread, so no lock is held in the copy.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, std::mem::size_of::<libc::clone_args>())
    };
    match check(pid)? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just stored a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(Pid::from_raw(pid as i32), pidfd))
        }
    }
}

/// Ends this process at once: no destructor, no exit handler, which belong to the parent's copy.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) takes any integer and does not return.
    unsafe { libc::_exit(status) }
}

/// execve(2) by descriptor or path with prepared arrays; returns only on failure.
pub fn execve(path: &std::ffi::CStr, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: path and both arrays are NUL-terminated and live until the call, which copies them.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

/// An argument vector in the kernel's form, made before the clone so that nothing is left to allocate.
#[derive(Debug)]
pub struct Strings {
    // The pointers point into these, whose heap buffers do not move.
    owned: Vec<std::ffi::CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    /// Takes the strings over and appends the closing NULL.
    pub fn new(owned: Vec<std::ffi::CString>) -> Self {
        let pointers = owned.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Strings { owned, pointers }
    }

    /// The strings themselves.
    pub fn as_slice(&self) -> &[std::ffi::CString] {
        &self.owned
    }

    pub(super) fn as_ptr(&self) -> *const *mut libc::c_char {
        self.pointers.as_ptr().cast()
    }
}

impl Serialize for Strings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.owned.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Strings::new)
    }
}

#[cfg(test)]
mod tests {
    use super::SingleThreaded;

    #[test]
    fn a_process_with_threads_proves_nothing() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(SingleThreaded::prove().is_none());
        drop(done);
        assert!(other.join().is_ok());
    }
}
