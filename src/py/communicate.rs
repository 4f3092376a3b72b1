//! Input, output and errors of a process, carried at the same time so that no pipe fills up.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::error::{blocking, to_py};
use super::process::deadline;
use crate::error::{Error, Result};
use crate::interrupt::{self, Interrupt};
use crate::process::duplicate;

/// What is left to carry, and what came; kept over a timeout, so that nothing is lost by it.
#[pyclass(frozen, module = "rscontainer._core")]
pub(super) struct Communication(Mutex<Streams>);

struct Streams {
    input: Option<OwnedFd>,
    to_write: Vec<u8>,
    written: usize,
    outputs: [Output; 2],
}

struct Output {
    pipe: Option<OwnedFd>,
    bytes: Option<Vec<u8>>,
}

impl Output {
    fn new(number: Option<RawFd>) -> PyResult<Self> {
        Ok(Output { pipe: open(number)?, bytes: number.map(|_| Vec::new()) })
    }

    fn read(&mut self) -> Result<()> {
        const MOST: usize = 64 * 1024;
        let (Some(pipe), Some(bytes)) = (&self.pipe, &mut self.bytes) else { return Ok(()) };
        let have = bytes.len();
        bytes.resize(have + MOST, 0);
        let read = nix::unistd::read(pipe, &mut bytes[have..]);
        bytes.truncate(have + read.unwrap_or(0));
        match read {
            Ok(0) => self.pipe = None,
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(Error::call("read", "of the process's output", errno)),
        }
        Ok(())
    }
}

fn open(number: Option<RawFd>) -> PyResult<Option<OwnedFd>> {
    let opened = number.map(duplicate).transpose();
    opened.map_err(|errno| to_py(Error::call("dup", "of a pipe to the process", errno)))
}

impl Streams {
    fn is_done(&self) -> bool {
        self.input.is_none() && self.outputs.iter().all(|output| output.pipe.is_none())
    }

    /// False if it is not done at the deadline.
    fn carry(&mut self, until: Option<Instant>, interrupt: Interrupt<'_>) -> Result<bool> {
        while !self.is_done() {
            let [input, out, err] = match self.ready(until, interrupt)? {
                Some(ready) => ready,
                None => return Ok(false),
            };
            if input {
                self.write()?;
            }
            for (output, ready) in self.outputs.iter_mut().zip([out, err]) {
                if ready {
                    output.read()?;
                }
            }
        }
        Ok(true)
    }

    fn ready(&self, until: Option<Instant>, interrupt: Interrupt<'_>) -> Result<Option<[bool; 3]>> {
        let [out, err] = &self.outputs;
        let streams = [
            (&self.input, PollFlags::POLLOUT),
            (&out.pipe, PollFlags::POLLIN),
            (&err.pipe, PollFlags::POLLIN),
        ];
        loop {
            let open = streams.iter().filter_map(|(fd, events)| Some((fd.as_ref()?, *events)));
            let mut fds: Vec<_> =
                open.map(|(fd, events)| PollFd::new(fd.as_fd(), events)).collect();
            match poll(&mut fds, interrupt::attentive(until)) {
                Err(Errno::EINTR) => interrupt()?,
                Ok(0) if until.is_some_and(|until| Instant::now() >= until) => return Ok(None),
                Ok(0) => interrupt()?,
                Ok(_) => {
                    let mut polled = fds.iter();
                    return Ok(Some(streams.map(|(fd, _)| {
                        fd.is_some() && polled.next().and_then(PollFd::any).unwrap_or(false)
                    })));
                }
                Err(errno) => return Err(Error::call("poll", "on the process's pipes", errno)),
            }
        }
    }

    fn write(&mut self) -> Result<()> {
        /// A pipe that can be written to takes this much without blocking (pipe(7), PIPE_BUF).
        const PIECE: usize = 4096;
        let Some(input) = &self.input else { return Ok(()) };
        let rest = &self.to_write[self.written..];
        match nix::unistd::write(input, &rest[..rest.len().min(PIECE)]) {
            Ok(written) => self.written += written,
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // It reads no more; what it has written is still wanted.
            Err(Errno::EPIPE) => self.written = self.to_write.len(),
            Err(errno) => return Err(Error::call("write", "of the process's input", errno)),
        }
        if self.written == self.to_write.len() {
            self.input = None;
        }
        Ok(())
    }
}

#[pymethods]
impl Communication {
    #[new]
    #[pyo3(signature = (data, stdin, stdout, stderr))]
    fn new(
        data: &[u8],
        stdin: Option<RawFd>,
        stdout: Option<RawFd>,
        stderr: Option<RawFd>,
    ) -> PyResult<Self> {
        Ok(Communication(Mutex::new(Streams {
            input: if data.is_empty() { None } else { open(stdin)? },
            to_write: data.to_vec(),
            written: 0,
            outputs: [Output::new(stdout)?, Output::new(stderr)?],
        })))
    }

    /// Carries until all is said; False if it is not at the timeout.
    #[pyo3(signature = (timeout=None))]
    fn run(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let until = deadline(timeout);
        blocking(py, |interrupt| {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).carry(until, interrupt)
        })
    }

    /// What came so far, of output and of errors.
    fn output<'py>(&self, py: Python<'py>) -> [Option<Bound<'py, PyBytes>>; 2] {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = |output: &Output| output.bytes.as_deref().map(|bytes| PyBytes::new(py, bytes));
        let [out, err] = &streams.outputs;
        [bytes(out), bytes(err)]
    }
}
