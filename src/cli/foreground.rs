//! A container in the foreground: its terminal is the caller's, the caller's signals are its own.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::process::reap;
use crate::container::Running;
use crate::error::{Error, Result};
use crate::launch::Image;
use crate::sys::{fds, pidfd};
use crate::terminal::Session;

/// Signals to this process, as something to read.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

/// The container ends by itself, and these tell of faults or of the terminal's window.
const OWN: [Signal; 9] = [
    Signal::SIGCHLD,
    Signal::SIGWINCH,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

impl Signals {
    /// Blocks them, for them to be read.
    pub(super) fn block() -> Result<Self> {
        let mut set = SigSet::all();
        OWN.into_iter().for_each(|signal| set.remove(signal));
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)
            .map_err(|errno| Error::call("sigprocmask", "to forward signals", errno))?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Signals)
            .map_err(|errno| Error::call("signalfd", "to forward signals", errno))
    }

    fn forward(&self, running: &Running) {
        while let Ok(Some(signal)) = self.0.read_signal() {
            // It may be ending at this moment.
            let _ = pidfd::send_signal(&running.pidfd, signal.ssi_signo as i32);
        }
    }
}

/// Has a container's mounts outlive it, and be taken down beside what else there is to do at its end:
/// the kernel waits for a grace period then, for which the init's end would wait too. What the init
/// was cloned from, `image`, goes while the program runs.
pub(super) fn outlive_mounts(running: &Running, image: Option<Image>) {
    let mounts = File::open(format!("/proc/{}/ns/mnt", running.pid));
    let (Ok(mounts), Ok(init)) = (mounts, running.pidfd.try_clone()) else { return };
    // Started now, for then it would have to wait for a processor.
    let _ = beside(move || {
        drop(image);
        pidfd::await_end(&init);
        drop(mounts);
    });
}

/// Starts a thread beside the one that joins the terminal, and leaves all signals to that one, whose
/// wait SIGWINCH has to interrupt.
pub(super) fn beside(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let deaf = move || {
        // No set of signals is refused.
        let _ = SigSet::all().thread_block();
        work();
    };
    std::thread::Builder::new().spawn(deaf).map(drop)
}

/// Stays with a process to its end; its exit status as a shell has it.
pub(super) fn attend(running: &Running, signals: &Signals) -> Result<u8> {
    match &running.terminal {
        Some(terminal) => Session {
            input: fds::stdio(0),
            output: fds::stdio(1),
            terminal: terminal.as_fd(),
            process: running.pidfd.as_fd(),
            signals: Some(signals.0.as_fd()),
            on_signal: &mut || {
                signals.forward(running);
                Ok(())
            },
            interrupted: &mut || Ok(()),
            until: None,
        }
        .run()
        .map(drop)?,
        None => wait(running, signals)?,
    }
    reap(running)
}

fn wait(running: &Running, signals: &Signals) -> Result<()> {
    loop {
        let mut polled = [
            PollFd::new(running.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.0.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::call("poll", "on the container", errno)),
            Ok(_) if polled[0].any() == Some(true) => return Ok(()),
            Ok(_) => signals.forward(running),
        }
    }
}
