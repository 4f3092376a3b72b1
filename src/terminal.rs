//! The caller's terminal joined to a container's.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{
    SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr,
};

use crate::error::{Error, Result};
use crate::interrupt::{self, Interrupt};
use crate::sys::{pty, winch::Resizes};

/// The two ends that are joined, and how long.
pub struct Session<'a> {
    /// Where keys come from; raw while joined if it is a terminal.
    pub input: BorrowedFd<'a>,
    /// Where the container's words go.
    pub output: BorrowedFd<'a>,
    /// The caller's end of the container's terminal.
    pub terminal: BorrowedFd<'a>,
    /// The process whose end is the session's end, by pidfd.
    pub process: BorrowedFd<'a>,
    /// Further descriptors and what to do when they can be read.
    pub signals: Option<BorrowedFd<'a>>,
    /// Called when `signals` can be read.
    pub on_signal: &'a mut dyn FnMut() -> Result<()>,
    /// Called when a wait was interrupted; its error ends the session.
    pub interrupted: Interrupt<'a>,
    /// When to give up; none waits for ever.
    pub until: Option<Instant>,
}

/// A terminal in raw mode until dropped, whatever happens in between.
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    /// None where it is no terminal.
    fn enter(terminal: BorrowedFd<'a>) -> Result<Option<Self>> {
        let before = match tcgetattr(terminal) {
            Err(Errno::ENOTTY | Errno::EINVAL) => return Ok(None),
            before => before.map_err(|errno| Error::call("tcgetattr", "of the terminal", errno))?,
        };
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(terminal, SetArg::TCSANOW, &raw)
            .map_err(|errno| Error::call("tcsetattr", "of the terminal", errno))?;
        Ok(Some(Raw { terminal, before }))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // A terminal that was hung up meanwhile has no settings to restore.
        let _ = tcsetattr(self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

/// Bytes on their way to the container's terminal, which may not take them all at once.
#[derive(Default)]
struct Pending(Vec<u8>);

/// No more is read from the input than this while the terminal takes none.
const MOST_PENDING: usize = 64 * 1024;

impl Session<'_> {
    /// Carries bytes, and the window's size, until the process has ended and has said all; false if
    /// it still runs when the time is over.
    ///
    /// # Errors
    /// What a read, a write or `interrupted` answers; the terminal's settings are restored.
    pub fn run(mut self) -> Result<bool> {
        let raw = Raw::enter(self.input)?;
        let resizes =
            Resizes::listen().map_err(|errno| Error::call("sigaction", "for SIGWINCH", errno))?;
        set_nonblocking(self.terminal)?;
        self.copy_size();
        let mut pending = Pending::default();
        let mut input_open = true;
        loop {
            if resizes.any() {
                self.copy_size();
            }
            if self.is_over() {
                return Ok(false);
            }
            let wants_input = input_open && pending.0.len() < MOST_PENDING;
            let mut fds = self.poll_fds(wants_input, !pending.0.is_empty());
            match poll(&mut fds, self.patience()) {
                Err(Errno::EINTR) | Ok(0) => {
                    (self.interrupted)()?;
                    continue;
                }
                polled => polled.map_err(|errno| Error::call("poll", "on the terminal", errno))?,
            };
            let ready = fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
            let [terminal, process, input, signals] = ready;
            if input {
                input_open = self.read_input(&mut pending, raw.is_some())?;
            }
            self.write_pending(&mut pending)?;
            if signals {
                (self.on_signal)()?;
            }
            let open = !terminal || self.read_terminal()?;
            if process && (!open || !terminal) {
                return Ok(true);
            }
            if !open && !process {
                // Closed by all, but the process may go on without: wait for it alone.
                return self.await_process();
            }
        }
    }

    fn poll_fds(&self, wants_input: bool, wants_output: bool) -> [PollFd<'_>; 4] {
        let input = if wants_input { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut terminal = PollFlags::POLLIN;
        terminal.set(PollFlags::POLLOUT, wants_output);
        // A descriptor that is of no interest is asked for nothing, and an end of input that was
        // seen must not be reported again, so the terminal stands in for it.
        let input_fd = if wants_input { self.input } else { self.process };
        let signals = self.signals.unwrap_or(self.process);
        let signals_wanted =
            if self.signals.is_some() { PollFlags::POLLIN } else { PollFlags::empty() };
        [
            PollFd::new(self.terminal, terminal),
            PollFd::new(self.process, PollFlags::POLLIN),
            PollFd::new(input_fd, input),
            PollFd::new(signals, signals_wanted),
        ]
    }

    fn copy_size(&self) {
        // The size of what is shown; without a terminal there is none, and the container's stays.
        if let Ok(size) = pty::size(self.output).or_else(|_| pty::size(self.input)) {
            let _ = pty::resize(self.terminal, size);
        }
    }

    /// False at the end of the input.
    fn read_input(&self, pending: &mut Pending, from_terminal: bool) -> Result<bool> {
        let mut buffer = [0; 4096];
        match nix::unistd::read(self.input, &mut buffer) {
            Ok(0) | Err(Errno::EIO) => {
                if !from_terminal {
                    pending.0.push(self.end_of_file());
                }
                Ok(false)
            }
            Ok(read) => {
                pending.0.extend_from_slice(&buffer[..read]);
                Ok(true)
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(true),
            Err(errno) => Err(Error::call("read", "of standard input", errno)),
        }
    }

    /// A terminal has no end; what a user would press for one ends the input of who reads it.
    fn end_of_file(&self) -> u8 {
        const CONTROL_D: u8 = 4;
        tcgetattr(self.terminal).map_or(CONTROL_D, |settings| {
            settings.control_chars[SpecialCharacterIndices::VEOF as usize]
        })
    }

    fn write_pending(&self, pending: &mut Pending) -> Result<()> {
        if pending.0.is_empty() {
            return Ok(());
        }
        match nix::unistd::write(self.terminal, &pending.0) {
            Ok(written) => drop(pending.0.drain(..written)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Nobody reads any more.
            Err(Errno::EIO) => pending.0.clear(),
            Err(errno) => return Err(Error::call("write", "to the container's terminal", errno)),
        }
        Ok(())
    }

    /// False when every process in the container has closed it.
    fn read_terminal(&self) -> Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match nix::unistd::read(self.terminal, &mut buffer) {
            Ok(0) | Err(Errno::EIO) => Ok(false),
            Ok(read) => write_all(self.output, &buffer[..read]).map(|()| true),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(true),
            Err(errno) => Err(Error::call("read", "of the container's terminal", errno)),
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Signals that come as something to read interrupt nothing.
    fn patience(&self) -> PollTimeout {
        match self.signals {
            Some(_) => interrupt::timeout(self.until),
            None => interrupt::attentive(self.until),
        }
    }

    fn await_process(&mut self) -> Result<bool> {
        loop {
            if self.is_over() {
                return Ok(false);
            }
            let mut fds = [
                PollFd::new(self.process, PollFlags::POLLIN),
                PollFd::new(self.signals.unwrap_or(self.process), PollFlags::POLLIN),
            ];
            match poll(&mut fds, self.patience()) {
                Err(Errno::EINTR) | Ok(0) => (self.interrupted)()?,
                Err(errno) => return Err(Error::call("poll", "on the process", errno)),
                Ok(_) if fds[0].any() == Some(true) => return Ok(true),
                Ok(_) => (self.on_signal)()?,
            }
        }
    }
}

fn set_nonblocking(terminal: BorrowedFd<'_>) -> Result<()> {
    let failed = |errno| Error::call("fcntl", "of the container's terminal", errno);
    let flags = fcntl(terminal, FcntlArg::F_GETFL).map_err(failed)?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(terminal, FcntlArg::F_SETFL(flags)).map(drop).map_err(failed)
}

fn write_all(output: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(output, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(errno) => return Err(Error::call("write", "to standard output", errno)),
        }
    }
    Ok(())
}
