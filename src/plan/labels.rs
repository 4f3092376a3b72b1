//! `process.apparmorProfile`, `process.selinuxLabel` and `linux.mountLabel`.

use oci_spec::runtime::{Process, Spec};

use super::step::{Planned, SecurityModule, Step};
use super::{Compiler, c_string};
use crate::error::{Error, Result};

/// Which of the kernel's security modules that the config can name are enabled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecurityModules {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
}

const MOUNT_LABEL: &str = "$.linux.mountLabel";

impl Compiler<'_> {
    /// Through the host's /proc, so before the root changes, and after every hook that runs before:
    /// what is executed from here on is confined.
    pub(super) fn exec_labels(&mut self, process: &Process) -> Result<()> {
        let SecurityModules { apparmor, selinux } = self.facts.modules;
        let labels = [
            (SecurityModule::AppArmor, apparmor, "apparmorProfile", process.apparmor_profile()),
            (SecurityModule::SeLinux, selinux, "selinuxLabel", process.selinux_label()),
        ];
        for (module, enabled, property, label) in labels {
            let at = format!("$.process.{property}");
            let Some(label) = label.as_deref().filter(|label| !label.is_empty()) else { continue };
            if !enabled {
                return Err(not_enabled(module, &at, label, "config.md#linux-process"));
            }
            let label = c_string(label, || at.clone())?;
            self.push(Step::ExecLabel { module, label }, at);
        }
        Ok(())
    }

    /// Labels what was mounted so far, and the folder that will mask others: by a mount option,
    /// which nothing in the file system can undo.
    pub(super) fn mount_label(&mut self, spec: &Spec) -> Result<()> {
        let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
        let Some(label) = label.filter(|label| !label.is_empty()) else { return Ok(()) };
        if !self.facts.modules.selinux {
            let section = "config-linux.md#mount-label";
            return Err(not_enabled(SecurityModule::SeLinux, MOUNT_LABEL, label, section));
        }
        let label = c_string(label, || MOUNT_LABEL.to_owned())?;
        let steps = std::mem::take(&mut self.steps);
        for mut planned in steps {
            let mut relabel = None;
            if let Step::Mount(mount) = &mut planned.step {
                match mount.fstype.to_bytes() {
                    // The policy labels these by what is in them.
                    b"proc" | b"sysfs" | b"cgroup" | b"cgroup2" => {}
                    // Takes no such option.
                    b"mqueue" => relabel = Some(mount.target.clone()),
                    // What the mount's own options say goes before.
                    _ if mount.parameters.iter().any(|(key, _)| is_context(key.to_bytes())) => {}
                    _ => {
                        mount.parameters.push((c"context".to_owned(), Some(label.clone())));
                    }
                }
            }
            self.steps.push(planned);
            if let Some(target) = relabel {
                let step = Step::Relabel { target, label: label.clone() };
                self.steps.push(Planned { step, asked_by: Some(MOUNT_LABEL.to_owned()) });
            }
        }
        let linux = spec.linux().as_ref();
        if linux.and_then(|linux| linux.masked_paths().as_ref()).is_some_and(|it| !it.is_empty()) {
            self.push(Step::LabelMasks(label), MOUNT_LABEL);
        }
        Ok(())
    }
}

/// The options of mount(8) by which SELinux labels a file system.
pub(super) fn is_context(key: &[u8]) -> bool {
    matches!(key, b"context" | b"fscontext" | b"defcontext" | b"rootcontext")
}

fn not_enabled(module: SecurityModule, at: &str, label: &str, section: &str) -> Error {
    let name = module.name();
    let message = format!("{name} is not enabled on this host");
    Error::spec(at, Some(format!("{label:?}")), section, message)
        .hint(format!("leave it out, or boot a kernel that has {name} with it enabled"))
}
