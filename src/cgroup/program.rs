//! The device program: loaded once, attached to each container's cgroup.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::group::Directory;
use crate::error::{Error, Result};
use crate::sys::bpf::{self, Instruction};

/// The program loaded last, by its instructions.
///
/// To verify and compile it takes the kernel 0.3 ms, to attach it 0.05, and a launcher's
/// containers seldom differ in their devices.
static LOADED: Mutex<Option<(Vec<Instruction>, Arc<OwnedFd>)>> = Mutex::new(None);

fn load(program: &[Instruction]) -> nix::Result<Arc<OwnedFd>> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, fd)) = loaded.as_ref().filter(|(last, _)| last == program) {
        return Ok(Arc::clone(fd));
    }
    let fd = Arc::new(bpf::load_device_program(program)?);
    *loaded = Some((program.to_vec(), Arc::clone(&fd)));
    Ok(fd)
}

/// The programs that were attached before others took their place.
#[derive(Debug)]
pub(super) struct Attached(Vec<OwnedFd>);

/// Attaches a program in the stead of those that are there.
pub(super) fn attach(program: &[Instruction], directory: &Directory) -> Result<()> {
    let program = load(program).map_err(|errno| not_loaded(directory, errno))?;
    put(Some(&program), directory).map(drop)
}

/// Attaches a program, or none, in the stead of those that are there. It is not kept for others:
/// this process may be anybody's.
pub(super) fn exchange(program: Option<&[Instruction]>, directory: &Directory) -> Result<Attached> {
    let program = program.map(bpf::load_device_program).transpose();
    let program = program.map_err(|errno| not_loaded(directory, errno))?;
    put(program.as_ref(), directory)
}

impl Attached {
    /// Attaches them again in the stead of what is there now.
    pub(super) fn restore(self, directory: &Directory) -> Result<()> {
        put(self.0.first(), directory).map(drop)
    }
}

fn not_loaded(directory: &Directory, errno: Errno) -> Error {
    failed(directory, "BPF_PROG_LOAD", errno)
        .hint("restricting devices needs CAP_BPF or CAP_SYS_ADMIN")
}

fn failed(directory: &Directory, command: &str, errno: Errno) -> Error {
    Error::call("bpf", format!("{command} on {:?}", directory.path.display()), errno)
}

fn put(program: Option<&OwnedFd>, directory: &Directory) -> Result<Attached> {
    let opened;
    let cgroup = match &directory.handle {
        Some(handle) => handle.as_fd(),
        None => {
            opened = Directory::open(&directory.path)
                .map_err(|errno| Error::path_call("open", &directory.path, errno))?;
            opened.as_fd()
        }
    };
    let failed = |command, errno| failed(directory, command, errno);
    let before = bpf::device_programs(cgroup).map_err(|errno| failed("BPF_PROG_QUERY", errno))?;
    // One is exchanged in one step, so that no moment is without a rule. Of several, the others
    // go after the new one is there: all of them have to agree to an access.
    let replaced = before.first().map(AsFd::as_fd);
    if let Some(program) = program {
        bpf::attach_device_program(cgroup, program, replaced)
            .map_err(|errno| failed("BPF_PROG_ATTACH", errno))?;
    }
    before.iter().skip(usize::from(program.is_some())).try_for_each(|program| {
        bpf::detach_device_program(cgroup, program)
            .map_err(|errno| failed("BPF_PROG_DETACH", errno))
    })?;
    Ok(Attached(before))
}
