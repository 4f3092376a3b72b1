//! `linux.seccomp`.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompOperator as Operator,
};

use super::{Warnings, absolute, fault};
use crate::Result;

pub(super) fn validate(seccomp: &LinuxSeccomp, warnings: &mut Warnings) -> Result<()> {
    const PATH: &str = "$.linux.seccomp";
    let action = seccomp.default_action();
    if action == Action::ScmpActNotify {
        let message = "cannot be the default: the agent's own calls would wait for the agent";
        return Err(fault(format_args!("{PATH}.defaultAction"), action, message));
    }
    errno(format_args!("{PATH}.defaultErrnoRet"), action, seccomp.default_errno_ret())?;
    for (index, arch) in seccomp.architectures().iter().flatten().enumerate() {
        if *arch == Arch::ScmpArchNative {
            let path = format_args!("{PATH}.architectures[{index}]");
            let message = "is no architecture of the specification; the host's own is always there";
            return Err(fault(path, arch, message));
        }
    }
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
    syscalls(seccomp, listener.is_some(), warnings)
}

fn syscalls(seccomp: &LinuxSeccomp, has_listener: bool, warnings: &mut Warnings) -> Result<()> {
    for (index, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        let path = format_args!("$.linux.seccomp.syscalls[{index}]");
        let action = rule.action();
        if rule.names().is_empty() {
            return Err(fault(format_args!("{path}.names"), rule.names(), "must not be empty"));
        }
        for (position, name) in rule.names().iter().enumerate() {
            if name.is_empty() {
                let path = format_args!("{path}.names[{position}]");
                return Err(fault(path, name, "must not be empty"));
            }
        }
        errno(format_args!("{path}.errnoRet"), action, rule.errno_ret())?;
        if action == Action::ScmpActNotify {
            if !has_listener {
                return Err(fault(format_args!("{path}.action"), action, "needs a listenerPath"));
            }
            // runc hands the filter's descriptor over with the one, this runtime with the other.
            let used = |name: &&String| ["write", "sendmsg"].contains(&name.as_str());
            if let Some(name) = rule.names().iter().find(used) {
                let message =
                    format!("{name} cannot wait for the agent, who is not told of it without one");
                return Err(fault(format_args!("{path}.names"), rule.names(), message));
            }
        }
        for (position, argument) in rule.args().iter().flatten().enumerate() {
            if argument.index() > 5 {
                let path = format_args!("{path}.args[{position}].index");
                return Err(fault(path, argument.index(), "must be between 0 and 5"));
            }
            let masked = argument.op() == Operator::ScmpCmpMaskedEq;
            if !masked && argument.value_two().is_some_and(|value| value != 0) {
                let path = format_args!("{path}.args[{position}].valueTwo");
                warnings.add(path, "has no effect: only SCMP_CMP_MASKED_EQ has a second value");
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
