//! `linux.seccomp`.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action};

use super::{absolute, fault};
use crate::Result;

pub(super) fn validate(seccomp: &LinuxSeccomp) -> Result<()> {
    const PATH: &str = "$.linux.seccomp";
    let action = seccomp.default_action();
    if action == Action::ScmpActNotify {
        let message = "cannot be the default: the agent's own calls would wait for the agent";
        return Err(fault(format_args!("{PATH}.defaultAction"), action, message));
    }
    errno(format_args!("{PATH}.defaultErrnoRet"), action, seccomp.default_errno_ret())?;
    let listener = seccomp.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    if let Some(listener) = listener {
        absolute(format_args!("{PATH}.listenerPath"), listener)?;
    }
    match seccomp.listener_metadata().as_deref() {
        Some(metadata) if listener.is_none() && !metadata.is_empty() => {
            let message = "must not be set without a listenerPath";
            return Err(fault(format_args!("{PATH}.listenerMetadata"), metadata, message));
        }
        _ => {}
    }
    syscalls(seccomp, listener.is_some())
}

fn syscalls(seccomp: &LinuxSeccomp, has_listener: bool) -> Result<()> {
    for (index, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        let path = format_args!("$.linux.seccomp.syscalls[{index}]");
        let action = rule.action();
        if rule.names().is_empty() {
            return Err(fault(format_args!("{path}.names"), rule.names(), "must not be empty"));
        }
        errno(format_args!("{path}.errnoRet"), action, rule.errno_ret())?;
        if action == Action::ScmpActNotify {
            if !has_listener {
                return Err(fault(format_args!("{path}.action"), action, "needs a listenerPath"));
            }
            // The filter's descriptor is handed over with a write to a socket.
            if rule.names().iter().any(|name| name == "write") {
                let message = "write cannot wait for the agent, who is notified by one";
                return Err(fault(format_args!("{path}.names"), rule.names(), message));
            }
        }
        for (position, argument) in rule.args().iter().flatten().enumerate() {
            if argument.index() > 5 {
                let path = format_args!("{path}.args[{position}].index");
                return Err(fault(path, argument.index(), "must be between 0 and 5"));
            }
        }
    }
    Ok(())
}

fn errno(path: impl std::fmt::Display, action: Action, errno: Option<u32>) -> Result<()> {
    match errno {
        Some(errno @ 1..) if !matches!(action, Action::ScmpActErrno | Action::ScmpActTrace) => {
            Err(fault(path, errno, format!("the action {action} returns no errno")))
        }
        // The filter returns it in sixteen bits, of which the kernel takes no more than this.
        Some(errno @ 4096..) if action == Action::ScmpActErrno => {
            Err(fault(path, errno, "must not be larger than 4095"))
        }
        Some(errno @ 65536..) => Err(fault(path, errno, "must not be larger than 65535")),
        _ => Ok(()),
    }
}
