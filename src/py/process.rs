//! A process in a container, as its caller waits for it and signals it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::error::{blocking, to_py};
use crate::container;
use crate::error::{Error, Kind, Result};
use crate::helper::client::Started;
use crate::interrupt::{self, Interrupt};
use crate::process::{self, Size, WaitStatus};
use crate::state::Root;
use crate::terminal::Session;

/// A process in a container.
#[pyclass(frozen, module = "rscontainer._core")]
pub(super) struct Process {
    pid: i32,
    pidfd: OwnedFd,
    /// Where the launcher writes the wait status; none for a process that another launcher started.
    status: Mutex<Option<OwnedFd>>,
    ended: OnceLock<Option<WaitStatus>>,
    /// Whether that was for want of memory; none where nobody can tell.
    oom_killed: OnceLock<Option<bool>>,
    container: Home,
    terminal: Option<OwnedFd>,
    warnings: Vec<String>,
}

/// The container that a process is in.
pub(super) struct Home {
    pub(super) root: Root,
    pub(super) id: String,
}

impl Process {
    pub(super) fn started(started: Started, container: Home) -> Self {
        Process {
            pid: started.pid,
            pidfd: started.pidfd,
            status: Mutex::new(Some(started.status)),
            ended: OnceLock::new(),
            oom_killed: OnceLock::new(),
            container,
            terminal: started.terminal,
            warnings: started.warnings,
        }
    }

    /// One that is found running: its end can be awaited, its status asked of the kernel.
    pub(super) fn found(pid: i32, pidfd: OwnedFd, container: Home) -> Self {
        Process {
            pid,
            pidfd,
            status: Mutex::new(None),
            ended: OnceLock::new(),
            oom_killed: OnceLock::new(),
            container,
            terminal: None,
            warnings: Vec::new(),
        }
    }

    /// False if it still runs at the deadline.
    fn await_end(&self, until: Option<Instant>, interrupt: Interrupt<'_>) -> Result<bool> {
        if self.ended.get().is_some() {
            return Ok(true);
        }
        if !interrupt::readable(&self.pidfd, until, interrupt)? {
            return Ok(false);
        }
        // It has ended, so the launcher is about to say how, if there is one.
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ended.get().is_some() {
            return Ok(true);
        }
        let said = match status.take() {
            Some(pipe) => read_status(&pipe, interrupt)?,
            None => None,
        };
        let ended = said.or_else(|| process::exit_status(self.pid, &self.pidfd));
        // Now, for whoever waits for it may delete the container, and the count with it.
        self.oom_killed.get_or_init(|| self.was_oom_killed(ended?));
        self.ended.get_or_init(|| ended);
        Ok(true)
    }

    /// The kernel kills by a signal as anybody may; it counts whom it kills, by cgroup.
    fn was_oom_killed(&self, ended: WaitStatus) -> Option<bool> {
        if ended.returncode() != -libc::SIGKILL {
            return Some(false);
        }
        container::oom_kills(&self.container.root, &self.container.id).map(|kills| kills > 0)
    }

    fn code(&self) -> Result<Option<i32>> {
        match self.ended.get() {
            None => Ok(None),
            Some(Some(status)) => Ok(Some(status.returncode())),
            Some(None) => Err(Error::new(
                Kind::Other,
                format!("process {} has ended, and how is not known here", self.pid),
            )
            .hint("its launcher is gone; linux 6.15 and newer tell all the same")),
        }
    }
}

/// None if the launcher died before it could say.
fn read_status(pipe: &OwnedFd, interrupt: Interrupt<'_>) -> Result<Option<WaitStatus>> {
    interrupt::readable(pipe, None, interrupt)?;
    let mut status = [0; 4];
    let read = nix::unistd::read(pipe, &mut status);
    Ok((read == Ok(4)).then(|| WaitStatus(i32::from_le_bytes(status))))
}

/// A timeout in seconds as the moment at which it is over; none waits for ever.
pub(super) fn deadline(timeout: Option<f64>) -> Option<Instant> {
    let timeout = timeout?;
    // Too far away to be reached, as infinity is.
    let wait = Duration::try_from_secs_f64(timeout.max(0.0)).ok()?;
    Instant::now().checked_add(wait)
}

#[pymethods]
impl Process {
    #[getter]
    fn pid(&self) -> i32 {
        self.pid
    }

    /// What the specification wants said of its config and not refused.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    fn fileno(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    #[getter]
    fn returncode(&self) -> PyResult<Option<i32>> {
        self.code().map_err(to_py)
    }

    #[getter]
    fn oom_killed(&self) -> Option<bool> {
        self.oom_killed.get().copied().flatten()
    }

    fn poll(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        self.wait(py, Some(0.0))
    }

    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let until = deadline(timeout);
        blocking(py, |interrupt| self.await_end(until, interrupt).and_then(|_| self.code()))
    }

    fn send_signal(&self, py: Python<'_>, signal: i32) -> PyResult<()> {
        if self.poll(py)?.is_some() {
            // As subprocess: its number may be another's by now, and there is nobody to tell.
            return Ok(());
        }
        match process::send_signal(&self.pidfd, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(errno) => {
                let what = format!("of signal {signal} to process {}", self.pid);
                Err(to_py(Error::call("pidfd_send_signal", what, errno)))
            }
        }
    }

    /// A copy of the caller's end of the terminal, for the caller to close; none without one.
    fn terminal(&self) -> PyResult<Option<RawFd>> {
        use std::os::fd::IntoRawFd;
        let copy = self.terminal.as_ref().map(OwnedFd::try_clone).transpose()?;
        Ok(copy.map(IntoRawFd::into_raw_fd))
    }

    fn resize(&self, rows: u16, columns: u16) -> PyResult<()> {
        process::resize(self.terminal_fd()?, Size { rows, columns })
            .map_err(|errno| to_py(Error::call("ioctl", "TIOCSWINSZ on the terminal", errno)))
    }

    /// False if it still runs after the timeout.
    #[pyo3(signature = (input, output, timeout=None))]
    fn interact(
        &self,
        py: Python<'_>,
        input: RawFd,
        output: RawFd,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let until = deadline(timeout);
        let terminal = self.terminal_fd()?;
        let open = |number, what: &str| {
            process::duplicate(number).map_err(|errno| to_py(Error::call("dup", what, errno)))
        };
        let (input, output) = (open(input, "standard input")?, open(output, "standard output")?);
        blocking(py, |interrupt| {
            Session {
                input: input.as_fd(),
                output: output.as_fd(),
                terminal: terminal.as_fd(),
                process: self.pidfd.as_fd(),
                signals: None,
                on_signal: &mut interrupt::never,
                interrupted: interrupt,
                until,
            }
            .run()
        })
    }
}

/// Sets the size of the window of a terminal that Python holds.
#[pyfunction]
pub(super) fn resize_terminal(number: RawFd, rows: u16, columns: u16) -> PyResult<()> {
    process::duplicate(number)
        .and_then(|terminal| process::resize(terminal, Size { rows, columns }))
        .map_err(|errno| to_py(Error::call("ioctl", "TIOCSWINSZ on the terminal", errno)))
}

impl Process {
    fn terminal_fd(&self) -> PyResult<&OwnedFd> {
        self.terminal.as_ref().ok_or_else(|| {
            to_py(
                Error::new(Kind::Other, "the process has no terminal")
                    .hint("ask for one with terminal=True"),
            )
        })
    }
}
