//! start: tells a created container's init to run its program.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::Held;
use crate::error::{Error, Kind, Result};
use crate::interrupt::{self, Interrupt};
use crate::launch;
use crate::plan::step::StartSignal;
use crate::plan::{Facts, Plan, Situation};
use crate::state::{Folder, Root, START_SOCKET, Status};
use crate::sys::socket;

/// Starts a created container; returns when its program runs.
///
/// # Errors
/// The container is not in status created, or the program cannot be executed.
pub fn start(root: &Root, id: &str, interrupt: Interrupt<'_>) -> Result<()> {
    let held = Held::find(root, id, interrupt)?;
    held.expect("start", &[Status::Created])?;
    let init = connect(&held.folder)?;
    held.folder.remove_file(START_SOCKET)?;
    let state = held.state.to_oci_json(Status::Created);
    crate::init::send_text(init.as_fd(), &state)
        .map_err(|errno| Error::call("sendmsg", "to the container's init", errno))?;
    interrupt::readable(&init, None, interrupt)?;
    match crate::init::receive(init.as_fd()) {
        Ok(None) => super::create::poststart(&held.state, interrupt).inspect_err(|_| {
            // The hook's error is the one to report; whatever does not end is delete's to name.
            let _ = super::delete::end(&held, interrupt);
        }),
        Ok(Some(failed)) => Err(explain(root, &held, failed)),
        Err(errno) => Err(Error::call("recvmsg", "from the container's init", errno)),
    }
}

fn connect(folder: &Folder) -> Result<OwnedFd> {
    socket::connect_in(folder, START_SOCKET).map_err(|errno| {
        let error = Error::path_call("connect", folder.path().join(START_SOCKET), errno);
        match errno {
            Errno::ECONNREFUSED => error.context("the container's init does not listen any more"),
            _ => error,
        }
    })
}

/// The init sends a step's number; the plan that has its words is compiled again, for this error
/// alone.
fn explain(root: &Root, held: &Held, failed: crate::init::Message) -> Error {
    let state = &held.state;
    let plan = state.spec().and_then(|mut spec| {
        if held.folder.has_notify() {
            super::notify::pass_on(&mut spec, &root.notify(&state.id))?;
        }
        let situation = Situation {
            session_keyring: state.session_keyring,
            tree: root.tree(&state.id),
            ..Situation::new(&state.id, &state.bundle, StartSignal::Socket)
        };
        Plan::compile(&spec, &Facts::probe()?, &situation)
    });
    match plan {
        Ok(plan) => launch::explain(&plan, failed),
        Err(_) => Error::new(Kind::Other, format!("the container's init failed: {failed:?}")),
    }
}
