//! Network devices of the host, moved into the container.
//!
//! A device that changes its namespace is set down and loses its addresses
//! (the kernel's `dev_change_net_namespace`): those that are to be kept are
//! read before and given again after.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::Child;
use crate::error::{Error, Result};
use crate::plan::NetDevice;
use crate::sys::netlink::Netlink;
use crate::sys::pidfd;

/// Moves what the plan says; all is looked at before the first one moves.
pub(super) fn attach(child: &Child<'_>) -> Result<()> {
    let devices = &child.plan.net_devices;
    let namespace = child.namespace("net").map_err(not_entered)?;
    let mut outside = open()?;
    let mut inside = open_in(&namespace).map_err(not_entered)?;
    let mut names = Vec::new();
    for device in devices {
        let link = outside.link(&device.name).map_err(|errno| {
            failed(device, "RTM_GETLINK", errno)
                .hint("it must be in the network namespace that the runtime is in")
        })?;
        let name = free_name(device, &mut inside, &names, devices)?;
        names.push((link, name.clone()));
    }
    for (device, (link, name)) in devices.iter().zip(&names) {
        // Setting it down would take the addresses of IPv6 away.
        let addresses =
            outside.addresses(*link).map_err(|errno| failed(device, "RTM_GETADDR", errno))?;
        outside.move_link(*link, &namespace, name).map_err(|errno| not_moved(device, errno))?;
        // Its number may be another now.
        let link = inside.link(name).map_err(|errno| failed(device, "RTM_GETLINK", errno))?;
        for address in addresses.iter().filter(|address| address.is_permanent_and_global()) {
            inside
                .add_address(link, address)
                .map_err(|errno| failed(device, "RTM_NEWADDR", errno))?;
        }
        inside.set_up(link).map_err(|errno| failed(device, "RTM_NEWLINK", errno))?;
    }
    Ok(())
}

fn failed(device: &NetDevice, call: &str, errno: Errno) -> Error {
    let name = device.name.to_string_lossy();
    Error::call(call, format_args!("{name:?}"), errno).context(device).asked_by(&device.asked_by)
}

fn not_entered(error: Error) -> Error {
    let error =
        error.context("move network devices into the container").asked_by("$.linux.netDevices");
    match error.errno() {
        Some(Errno::EPERM | Errno::EACCES) => error.hint(NEEDS_ADMIN),
        _ => error,
    }
}

const NEEDS_ADMIN: &str = "moving a device needs CAP_NET_ADMIN in its own network namespace and \
                           in the container's";

fn not_moved(device: &NetDevice, errno: Errno) -> Error {
    let error = failed(device, "RTM_NEWLINK", errno);
    match errno {
        Errno::EEXIST => error.hint(TAKEN),
        Errno::EINVAL => error.hint("the loopback and some virtual devices cannot be moved"),
        Errno::EPERM => error.hint(NEEDS_ADMIN),
        _ => error,
    }
}

const TAKEN: &str = "the container's network namespace has a device of that name: choose another \
                     name, or a template such as eth%d";

/// What the device is called inside: where a template was given, with the first free number.
///
/// The kernel would find that number itself, but not say which device it gave it to.
fn free_name(
    device: &NetDevice,
    inside: &mut Netlink,
    taken: &[(u32, CString)],
    devices: &[NetDevice],
) -> Result<CString> {
    let mut exists = |name: &CStr| match inside.link(name) {
        Err(Errno::ENODEV) => Ok(false),
        Ok(_) => Ok(true),
        Err(errno) => Err(failed(device, "RTM_GETLINK", errno)),
    };
    let template = device.new_name.to_string_lossy();
    let Some((before, after)) = template.split_once("%d") else {
        return match exists(&device.new_name)? {
            false => Ok(device.new_name.clone()),
            true => Err(not_moved(device, Errno::EEXIST)),
        };
    };
    for number in 0.. {
        let name = format!("{before}{number}{after}");
        let name = CString::new(name).map_err(|_| not_moved(device, Errno::EINVAL))?;
        if name.count_bytes() >= libc::IFNAMSIZ {
            break;
        }
        let promised = taken.iter().any(|(_, other)| *other == name)
            || devices.iter().any(|other| other.new_name == name);
        if !promised && !exists(&name)? {
            return Ok(name);
        }
    }
    Err(not_moved(device, Errno::EEXIST))
}

fn open() -> Result<Netlink> {
    Netlink::open().map_err(|errno| Error::call("socket", "AF_NETLINK", errno))
}

/// A socket belongs to the namespace that its maker was in.
fn open_in(namespace: &OwnedFd) -> Result<Netlink> {
    let home = super::open_namespace("/proc/self/ns/net")?;
    let enter = |namespace: &OwnedFd, which| {
        pidfd::setns(namespace, libc::CLONE_NEWNET)
            .map_err(|errno| Error::call("setns", which, errno))
    };
    enter(namespace, "into the container's network")?;
    let opened = open();
    enter(&home, "back to the host's network")?;
    opened
}
