//! The steps of `Bundle.create`; `rscontainer/bundle.py` puts them together.

use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::error::to_py;
use crate::error::Result;
use crate::image::{self, Source, Watch};

/// What Python raised while the core was at work; it is raised in place of the core's error.
type Raised = Arc<Mutex<Option<PyErr>>>;

/// Begins a bundle that is to be at `place` in the new folder `building`.
#[pyfunction]
pub(crate) fn bundle_prepare(py: Python<'_>, building: PathBuf, place: PathBuf) -> PyResult<()> {
    py.detach(|| image::prepare(&building, &place)).map_err(to_py)
}

/// Puts a finished bundle in its place.
#[pyfunction]
pub(crate) fn bundle_publish(py: Python<'_>, building: PathBuf, place: PathBuf) -> PyResult<()> {
    py.detach(|| image::publish(&building, &place)).map_err(to_py)
}

/// Removes a bundle that was begun, to its last file: signals wait until that is done.
#[pyfunction]
pub(crate) fn bundle_discard(py: Python<'_>, building: PathBuf) -> PyResult<()> {
    py.detach(|| image::discard(&building)).map_err(to_py)
}

/// Makes sure that a bundle is there.
#[pyfunction]
pub(crate) fn bundle_existing(py: Python<'_>, place: PathBuf) -> PyResult<()> {
    py.detach(|| image::existing(&place)).map_err(to_py)
}

/// Unpacks a tar stream, plain, gzip or zstd, from a descriptor or a function that reads.
/// Returns what was left out, a line each.
#[pyfunction]
pub(crate) fn unpack(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    destination: PathBuf,
) -> PyResult<Vec<String>> {
    let raised = Raised::default();
    let source = match source.extract::<RawFd>() {
        Ok(number) => Source::from_fd(number).map_err(to_py)?,
        Err(_) => Source::Reader(Box::new(Reader {
            read: source.clone().unbind(),
            rest: Vec::new(),
            at: 0,
            raised: raised.clone(),
        })),
    };
    watched(py, &raised, |watch| image::unpack(source, &destination, watch))
}

/// Unpacks a tar stream from a file by its path. Returns what was left out.
#[pyfunction]
pub(crate) fn unpack_file(
    py: Python<'_>,
    source: PathBuf,
    destination: PathBuf,
) -> PyResult<Vec<String>> {
    watched(py, &Raised::default(), |watch| {
        image::unpack(Source::open(&source)?, &destination, watch)
            .map_err(|error| error.context(format_args!("unpack {:?}", source.display())))
    })
}

/// Copies a folder's tree into another. Returns what was left out.
#[pyfunction]
pub(crate) fn copy_tree(
    py: Python<'_>,
    source: PathBuf,
    destination: PathBuf,
) -> PyResult<Vec<String>> {
    watched(py, &Raised::default(), |watch| image::copy_tree(&source, &destination, watch))
}

/// Fills a folder with the machine's busybox. Returns what was left out.
#[pyfunction]
pub(crate) fn busybox_rootfs(py: Python<'_>, destination: PathBuf) -> PyResult<Vec<String>> {
    py.detach(|| image::busybox_rootfs(&destination)).map_err(to_py)
}

/// Works without Python's lock, and takes it now and then to hear of signals.
fn watched<T: Send>(
    py: Python<'_>,
    raised: &Raised,
    work: impl FnOnce(&Watch<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    let stop = || match Python::attach(|py| py.check_signals()) {
        Ok(()) => false,
        Err(error) => {
            keep(raised, error);
            true
        }
    };
    let done = py.detach(|| work(&Watch::new(&stop)));
    let raised = raised.lock().unwrap_or_else(PoisonError::into_inner).take();
    match raised {
        Some(error) => Err(error),
        None => done.map_err(to_py),
    }
}

fn keep(raised: &Raised, error: PyErr) {
    raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// Reads by calling Python.
struct Reader {
    read: Py<PyAny>,
    /// What it gave beyond what was asked for.
    rest: Vec<u8>,
    at: usize,
    raised: Raised,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            self.at = 0;
            self.rest = Python::attach(|py| self.ask(py, buffer.len())).map_err(|error| {
                keep(&self.raised, error);
                io::Error::other("read raised an exception")
            })?;
        }
        let read = (&self.rest[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

impl Reader {
    fn ask(&self, py: Python<'_>, length: usize) -> PyResult<Vec<u8>> {
        // A read written in Python sees signals itself; one written in C may not.
        py.check_signals()?;
        let read = self.read.bind(py).call1((length,))?;
        if let Ok(bytes) = read.cast::<PyBytes>() {
            return Ok(bytes.as_bytes().to_vec());
        }
        if read.is_none() {
            return Err(PyValueError::new_err("read returned None: the file is non-blocking"));
        }
        // A number would pass for a length of zeros, and text for a sequence of characters.
        match py.get_type::<pyo3::types::PyMemoryView>().call1((&read,)) {
            Ok(view) => view.call_method0("tobytes")?.extract(),
            Err(_) => {
                let kind = read.get_type().name()?;
                let message = format!("read returned {kind}, not bytes; open it in binary mode");
                Err(PyTypeError::new_err(message))
            }
        }
    }
}
