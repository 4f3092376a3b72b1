//! A mount namespace to join that is the runtime's own.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::plan::step::{Namespace, Step};

/// Refuses to join the mount namespace that this process is in.
///
/// # Errors
/// It is: pivot_root(2) moves the root of every process in a namespace, and what was there before
/// is then unmounted.
pub(super) fn refuse(plan: &Plan) -> Result<()> {
    for planned in &plan.steps {
        let Step::OpenNamespace { kind: Namespace::Mount, path, .. } = &planned.step else {
            continue;
        };
        let path = Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
        let file = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino()));
        // One that is not there is the child's to report.
        if let (Ok(joined), Ok(own)) = (file(path), file(Path::new("/proc/self/ns/mnt")))
            && joined == own
        {
            let message =
                format!("join mount namespace {path:?}: it is the runtime's own, whose /");
            let message = format!("{message} would become the rootfs");
            let hint = "leave the mount namespace out for a container in the host's";
            let error = Error::new(Kind::Other, message).hint(hint);
            let asked_by = planned.asked_by.as_deref().unwrap_or("$.linux.namespaces");
            return Err(error.asked_by(asked_by));
        }
    }
    Ok(())
}
