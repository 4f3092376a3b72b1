//! The session keyring: the container's own, so that keys of whoever runs the runtime are none of
//! the container's.

use oci_spec::runtime::Process;

use super::step::Step;
use super::{Compiler, c_string};
use crate::error::Result;

/// `KEY_USR_SEARCH`: who searches for it by name does not possess it yet (keyctl(2)).
const OWNER_MAY_SEARCH: u32 = 0x0008_0000;

impl Compiler<'_> {
    /// In the container's user namespace, whose ids own the keyring then; by the name that runc
    /// gives it, by which exec finds it again.
    pub(super) fn session_keyring(&mut self, process: &Process, new: bool) -> Result<()> {
        if !self.situation.session_keyring {
            return Ok(());
        }
        let name = c_string(&format!("_ses.{}", self.situation.id), String::new)?;
        let label = process.selinux_label().as_deref();
        let label = label.filter(|label| self.facts.modules.selinux && !label.is_empty());
        let label = label.map(|label| c_string(label, || "$.process.selinuxLabel".to_owned()));
        let permissions = new.then_some(OWNER_MAY_SEARCH);
        let label = label.transpose()?;
        // A label that no policy knows is refused here first.
        let asked_by = if label.is_some() { "$.process.selinuxLabel" } else { "" };
        self.push(Step::SessionKeyring { name, permissions, label }, asked_by);
        Ok(())
    }
}
