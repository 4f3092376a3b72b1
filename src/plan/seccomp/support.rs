//! What the host's kernel has of seccomp.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction as Action};

use super::{PROPERTY, SECTION, flag_bit, returned};
use crate::error::{Error, Result};
use crate::sys::seccomp::answer;

/// What this program's own architecture is called; none where the specification has no name.
const NATIVE: Option<Arch> = {
    let little = cfg!(target_endian = "little");
    let wide = cfg!(target_pointer_width = "64");
    macro_rules! any_of {
        ($($arch:literal => $value:expr,)*) => {{
            let mut found = None;
            $(if cfg!(target_arch = $arch) { found = Some($value); })*
            found
        }};
    }
    any_of! {
        "x86" => Arch::ScmpArchX86,
        "x86_64" => if wide { Arch::ScmpArchX86_64 } else { Arch::ScmpArchX32 },
        "arm" => Arch::ScmpArchArm,
        "aarch64" => Arch::ScmpArchAarch64,
        "riscv64" => Arch::ScmpArchRiscv64,
        "loongarch64" => Arch::ScmpArchLoongarch64,
        "powerpc" => Arch::ScmpArchPpc,
        "powerpc64" => if little { Arch::ScmpArchPpc64le } else { Arch::ScmpArchPpc64 },
        "s390x" => Arch::ScmpArchS390x,
        "mips" => if little { Arch::ScmpArchMipsel } else { Arch::ScmpArchMips },
        "mips64" => match (little, wide) {
            (true, true) => Arch::ScmpArchMipsel64,
            (true, false) => Arch::ScmpArchMipsel64n32,
            (false, true) => Arch::ScmpArchMips64,
            (false, false) => Arch::ScmpArchMips64n32,
        },
        "m68k" => Arch::ScmpArchM68k,
    }
};

/// The answers that profiles ask for.
pub const ACTIONS: [u32; 8] = [
    answer::KILL_PROCESS,
    answer::KILL_THREAD,
    answer::TRAP,
    answer::ERRNO,
    answer::USER_NOTIF,
    answer::TRACE,
    answer::LOG,
    answer::ALLOW,
];

/// The host's architecture, and what its kernel has.
#[derive(Debug, Clone)]
pub struct Support {
    /// Of this program, so of the programs that it executes unless they are for an older one.
    pub native: Option<Arch>,
    /// The answers that it knows; none where it has no filters at all.
    pub actions: Vec<u32>,
    /// The flags that it knows, as bits.
    pub flags: u32,
}

impl Support {
    /// What a kernel for this architecture has at best.
    pub fn full() -> Self {
        Support { native: NATIVE, actions: ACTIONS.to_vec(), flags: u32::MAX }
    }

    /// Refuses what this kernel would refuse, with the line of the config that asks for it.
    pub(super) fn check(&self, seccomp: &LinuxSeccomp) -> Result<()> {
        let refused = |at: String, value: String, message: &str| {
            Err(Error::spec(format!("{PROPERTY}{at}"), Some(value), SECTION, message))
        };
        if self.actions.is_empty() {
            let message = "this kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)";
            return Err(Error::spec(PROPERTY, None, SECTION, message));
        }
        let missing = |action: Action| {
            let answer = returned(action, Some(0));
            !self.actions.contains(&answer)
        };
        let unknown = "this kernel does not have this action";
        if missing(seccomp.default_action()) {
            let action = seccomp.default_action().to_string();
            return refused(".defaultAction".into(), action, unknown);
        }
        for (index, rule) in seccomp.syscalls().iter().flatten().enumerate() {
            if missing(rule.action()) {
                let at = format!(".syscalls[{index}].action");
                return refused(at, rule.action().to_string(), unknown);
            }
        }
        for (index, flag) in seccomp.flags().iter().flatten().enumerate() {
            if flag_bit(*flag) & !self.flags != 0 {
                let message = "this kernel does not have this flag";
                return refused(format!(".flags[{index}]"), flag.to_string(), message);
            }
        }
        Ok(())
    }
}
