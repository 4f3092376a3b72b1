//! `hooks`: programs of the host, so their paths may not depend on where one stands.

use oci_spec::runtime::{Hook, Spec};

use super::{absolute, fault, missing, no_nul_each};
use crate::Result;

pub(super) fn validate(spec: &Spec) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    #[allow(deprecated, reason = "deprecated is not removed: the specification still wants it run")]
    let prestart = hooks.prestart();
    let kinds = [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (kind, hooks) in kinds {
        for (index, entry) in hooks.iter().flatten().enumerate() {
            hook(&format!("$.hooks.{kind}[{index}]"), entry)?;
        }
    }
    Ok(())
}

fn hook(path: &str, hook: &Hook) -> Result<()> {
    if hook.path().as_os_str().is_empty() {
        return Err(missing(format_args!("{path}.path")));
    }
    absolute(format_args!("{path}.path"), hook.path())?;
    no_nul_each(format_args!("{path}.args"), hook.args().as_deref())?;
    no_nul_each(format_args!("{path}.env"), hook.env().as_deref())?;
    match hook.timeout() {
        Some(seconds @ ..=0) => {
            Err(fault(format_args!("{path}.timeout"), seconds, "must be greater than zero"))
        }
        _ => Ok(()),
    }
}
