//! Default devices and links (config-linux.md#default-devices), and `linux.devices`.

use std::ffi::{CStr, CString};

use oci_spec::runtime::{LinuxDeviceType, Spec};

use super::step::{DeviceNode, Namespace, Step};
use super::{Compiler, c_path};
use crate::error::{Error, Result};

const DEFAULT_DEVICES: [(&CStr, u32, u32); 6] = [
    (c"/dev/null", 1, 3),
    (c"/dev/zero", 1, 5),
    (c"/dev/full", 1, 7),
    (c"/dev/random", 1, 8),
    (c"/dev/urandom", 1, 9),
    (c"/dev/tty", 5, 0),
];

const DEFAULT_LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
    (c"pts/ptmx", c"/dev/ptmx"),
];

impl Compiler<'_> {
    /// Devices and links; none where the config binds a `/dev` of the host, which has its own.
    pub(super) fn devices(&mut self, spec: &Spec) -> Result<()> {
        if self.binds_dev(spec) {
            return Ok(());
        }
        let bind = self.facts.rootless || self.has(Namespace::User);
        let asked = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
        let overridden = |path: &CStr| {
            asked
                .into_iter()
                .flatten()
                .any(|device| device.path().as_os_str().as_encoded_bytes() == path.to_bytes())
        };
        for (path, major, minor) in DEFAULT_DEVICES {
            if !overridden(path) {
                let (path, kind) = (path.to_owned(), libc::S_IFCHR);
                let (mode, keep) = (0o666, true);
                let node =
                    DeviceNode { path, kind, major, minor, mode, uid: 0, gid: 0, keep, bind };
                self.steps.push(super::Planned { step: Step::Device(node), asked_by: None });
            }
        }
        for (index, device) in asked.into_iter().flatten().enumerate() {
            let at = format!("$.linux.devices[{index}]");
            let node = asked_device(device, bind, &at)?;
            self.push(Step::Device(node), at);
        }
        for (target, path) in DEFAULT_LINKS {
            // Only the container's own devpts may be behind it, whatever the image has there.
            let replace = path == c"/dev/ptmx";
            let step = Step::Link { target: target.to_owned(), path: path.to_owned(), replace };
            self.steps.push(super::Planned { step, asked_by: None });
        }
        Ok(())
    }

    fn binds_dev(&self, spec: &Spec) -> bool {
        spec.mounts().iter().flatten().any(|mount| {
            let on_dev =
                mount.destination().components().eq(std::path::Path::new("/dev").components());
            let bind = |option: &String| option == "bind" || option == "rbind";
            on_dev
                && (mount.typ().as_deref() == Some("bind")
                    || mount.options().iter().flatten().any(bind))
        })
    }
}

fn asked_device(
    device: &oci_spec::runtime::LinuxDevice,
    bind: bool,
    at: &str,
) -> Result<DeviceNode> {
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => {
            let section = "config-linux.md#devices";
            let message = "a device is one of c, b, u or p";
            return Err(Error::spec(format!("{at}.type"), Some("\"a\"".into()), section, message));
        }
    };
    let number = |value: i64, name: &str| {
        u32::try_from(value).map_err(|_| {
            let message = "no device number";
            let section = "config-linux.md#devices";
            Error::spec(format!("{at}.{name}"), Some(value.to_string()), section, message)
        })
    };
    let path: CString = c_path(device.path(), || format!("{at}.path"))?;
    Ok(DeviceNode {
        path,
        kind,
        major: number(device.major(), "major")?,
        minor: number(device.minor(), "minor")?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        keep: false,
        // A FIFO is no device to the kernel: anybody may make one.
        bind: bind && kind != libc::S_IFIFO,
    })
}
