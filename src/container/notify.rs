//! The socket on which a container's program tells a service manager that it is ready
//! (sd_notify(3)), as the program sees it.

use std::path::Path;

use oci_spec::runtime::{MountBuilder, Spec};

use crate::error::{Error, Kind, Result};
use crate::state::NOTIFY_SOCKET;

/// Where runc puts it.
const FOLDER: &str = "/run/notify";
const OPTIONS: [&str; 5] = ["bind", "nosuid", "noexec", "nodev", "ro"];

/// Has the program see the socket in the host's `folder`, and told where that is.
pub(super) fn pass_on(spec: &mut Spec, folder: &Path) -> Result<()> {
    let mount = MountBuilder::default()
        .destination(FOLDER)
        .source(folder)
        .options(OPTIONS.map(str::to_owned))
        .build()
        .map_err(|error| Error::new(Kind::Other, format!("mount {folder:?}: {error}")))?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|variable| !variable.starts_with("NOTIFY_SOCKET="));
        env.push(format!("NOTIFY_SOCKET={FOLDER}/{NOTIFY_SOCKET}"));
        process.set_env(Some(env));
    }
    Ok(())
}
