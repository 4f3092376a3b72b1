//! The listener of a filter of system calls, handed to the agent that answers.

use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::Pid;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::plan::seccomp::Listener;
use crate::state::{State, Status};
use crate::sys::socket;

/// config-linux.md#containerprocessstate
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    /// Of the specification that this structure is from.
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: crate::state::OciState<'a>,
}

/// Sends the listener with the state of the process that it is about, on a connection of its own.
///
/// # Errors
/// The agent does not listen, or has gone.
pub fn send_listener(
    to: &Listener,
    listener: &OwnedFd,
    pid: Pid,
    state: &State,
    status: Status,
) -> Result<()> {
    let message = ContainerProcessState {
        oci_version: "1.3.0",
        fds: ["seccompFd"],
        pid: pid.as_raw(),
        metadata: to.metadata.as_deref(),
        state: state.to_oci(status),
    };
    // Strings and numbers: nothing in it that JSON has no form for.
    let message = serde_json::to_vec(&message).unwrap_or_default();
    let failed = |call: &'static str| {
        move |errno| {
            Error::path_call(call, &to.path, errno)
                .context("hand the seccomp listener to its agent")
                .asked_by("$.linux.seccomp.listenerPath")
                .hint("the agent must listen on that socket, of type SOCK_STREAM")
        }
    };
    let agent = socket::connect_stream(&to.path).map_err(failed("connect"))?;
    socket::send_stream(&agent, &message, &[listener.as_fd()]).map_err(failed("sendmsg"))
}
