//! `linux.netDevices`: which of the host's network devices go along.

use std::ffi::CString;
use std::fmt;

use oci_spec::runtime::Spec;

use super::display::Quoted;
use super::step::Step;
use super::{Compiler, c_string};
use crate::error::Result;

/// A network device that moves into the container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub name: CString,
    /// Its name in the container; with `%d` for the first number that is free there.
    pub new_name: CString,
    /// The device in the config.
    pub asked_by: String,
}

impl fmt::Display for NetDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "move network device {} into the container", Quoted(&self.name))?;
        if self.new_name == self.name {
            return Ok(());
        }
        write!(f, " as {}", Quoted(&self.new_name))
    }
}

impl Compiler<'_> {
    /// The parent moves them, who is in both namespaces an administrator.
    pub(super) fn net_devices(&mut self, spec: &Spec) -> Result<()> {
        let devices = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
        // A JSON object has no order; a plan that prints the same twice has one.
        let mut sorted: Vec<_> = devices.into_iter().flatten().collect();
        sorted.sort_by_key(|(name, _)| *name);
        for (name, device) in sorted {
            let asked_by = crate::spec::join("$.linux.netDevices", name);
            let new_name = device.name().as_deref().filter(|new| !new.is_empty()).unwrap_or(name);
            let new_name = c_string(new_name, || format!("{asked_by}.name"))?;
            let name = c_string(name, || asked_by.clone())?;
            self.net_devices.push(NetDevice { name, new_name, asked_by });
        }
        if !self.net_devices.is_empty() {
            // What the parent gives without being asked must be taken first.
            self.await_cgroup();
            self.push(Step::AwaitNetDevices, "$.linux.netDevices");
        }
        Ok(())
    }
}
