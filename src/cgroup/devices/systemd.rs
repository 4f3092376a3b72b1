//! The rules in systemd's words (`DeviceAllow` in systemd.resource-control(5)).

use super::{Policy, Rule, Type};

impl Policy {
    /// What may be used, in systemd's words; none where all may but for exceptions, which it has no
    /// words for, as for one minor number of every major one.
    pub(in super::super) fn allowed(&self) -> Option<Vec<(String, String)>> {
        if self.by_default() {
            return None;
        }
        let exceptions = self.exceptions().ok()?;
        Some(exceptions.iter().filter_map(Rule::for_systemd).collect())
    }
}

impl Rule {
    fn for_systemd(&self) -> Option<(String, String)> {
        let of = match self.of? {
            Type::Block => "block",
            Type::Char => "char",
        };
        let device = match (self.major, self.minor) {
            (Some(major), Some(minor)) => format!("/dev/{of}/{major}:{minor}"),
            (Some(major), None) => format!("{of}-{major}"),
            (None, None) => format!("{of}-*"),
            (None, Some(_)) => return None,
        };
        Some((device, self.letters()))
    }
}
