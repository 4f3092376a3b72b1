//! rtnetlink(7), as far as moving a network device to another namespace needs it.
//!
//! A message is a header, a fixed body and attributes, all in the host's byte
//! order and aligned to four bytes.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct ifinfomsg`.
const LINK: usize = 16;
/// `struct ifaddrmsg`.
const ADDRESS: usize = 8;
/// `struct rtattr`.
const ATTRIBUTE: usize = 4;
/// More than the kernel puts into one datagram of what is asked for here.
const LONGEST: usize = 64 * 1024;
/// How often a list is read again that changed meanwhile.
const MOST_DUMPS: usize = 16;

/// An address of a network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    scope: u8,
    flags: u32,
    /// `IFA_…` and its value, those that whoever added it had chosen.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Whether it was given for good and holds everywhere (RFC 3549 section 2.3.3.2).
    pub fn is_permanent_and_global(&self) -> bool {
        self.flags & libc::IFA_F_PERMANENT != 0 && self.scope == libc::RT_SCOPE_UNIVERSE
    }
}

/// A socket to the network namespace that it was made in.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// socket(2).
    pub fn open() -> nix::Result<Self> {
        let (family, kind, flags) = (AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket = socket(family, kind, flags, SockProtocol::NetlinkRoute)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// The number of the device with this name; `ENODEV` where there is none.
    pub fn link(&mut self, name: &CStr) -> nix::Result<u32> {
        let mut request = Request::link(libc::RTM_GETLINK, 0, 0);
        request.attribute(libc::IFLA_IFNAME, name.to_bytes_with_nul());
        let answers = self.ask(request, 0)?;
        let index = answers.first().and_then(|body| u32_at(body, 4));
        index.ok_or(Errno::EBADMSG)
    }

    /// The addresses of a device.
    pub fn addresses(&mut self, link: u32) -> nix::Result<Vec<Address>> {
        for _ in 0..MOST_DUMPS {
            let request = Request::new(libc::RTM_GETADDR, &[0; ADDRESS]);
            match self.ask(request, libc::NLM_F_DUMP) {
                Err(Errno::EINTR) => {}
                answers => {
                    let answers = answers?;
                    return Ok(answers.iter().filter_map(|body| address(body, link)).collect());
                }
            }
        }
        Err(Errno::EINTR)
    }

    /// Moves a device to another namespace, under this name there.
    pub fn move_link(&mut self, link: u32, namespace: impl AsFd, name: &CStr) -> nix::Result<()> {
        let namespace = namespace.as_fd().as_raw_fd();
        let mut request = Request::link(libc::RTM_NEWLINK, link, 0);
        request.attribute(libc::IFLA_NET_NS_FD, &namespace.to_ne_bytes());
        request.attribute(libc::IFLA_IFNAME, name.to_bytes_with_nul());
        self.ask(request, 0).map(drop)
    }

    /// Gives a device an address.
    pub fn add_address(&mut self, link: u32, address: &Address) -> nix::Result<()> {
        let mut body = [address.family, address.prefix, 0, address.scope, 0, 0, 0, 0];
        body[4..].copy_from_slice(&link.to_ne_bytes());
        let mut request = Request::new(libc::RTM_NEWADDR, &body);
        for (kind, value) in &address.attributes {
            request.attribute(*kind, value);
        }
        // The other flags are the kernel's, which finds them anew.
        let chosen = address.flags
            & (libc::IFA_F_NODAD
                | libc::IFA_F_HOMEADDRESS
                | libc::IFA_F_MANAGETEMPADDR
                | libc::IFA_F_NOPREFIXROUTE
                | libc::IFA_F_MCAUTOJOIN);
        request.attribute(libc::IFA_FLAGS, &chosen.to_ne_bytes());
        self.ask(request, libc::NLM_F_CREATE | libc::NLM_F_EXCL).map(drop)
    }

    /// Sets a device up.
    pub fn set_up(&mut self, link: u32) -> nix::Result<()> {
        self.ask(Request::link(libc::RTM_NEWLINK, link, libc::IFF_UP as u32), 0).map(drop)
    }

    /// Sends a request and gives the bodies of the answers, when the last has come.
    ///
    /// `EINTR`: what was listed changed in between.
    fn ask(&mut self, mut request: Request, flags: i32) -> nix::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        request.finish(flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK, self.sequence);
        let socket = self.socket.as_raw_fd();
        while send(socket, &request.message, MsgFlags::empty()) == Err(Errno::EINTR) {}
        let mut answers = Vec::new();
        let mut buffer = vec![0; LONGEST];
        let mut consistent = true;
        loop {
            // With MSG_TRUNC it gives the length that the datagram had.
            let read = match recv(socket, &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                read => read?,
            };
            let mut rest = buffer.get(..read).ok_or(Errno::EMSGSIZE)?;
            while let Some((message, after)) = next(rest) {
                rest = after;
                if u32_at(message, 8) != Some(self.sequence) {
                    continue;
                }
                consistent &= i32::from(u16_at(message, 6)) & libc::NLM_F_DUMP_INTR == 0;
                let body = &message[HEADER..];
                match i32::from(u16_at(message, 4)) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        let error = u32_at(body, 0).ok_or(Errno::EBADMSG)? as i32;
                        return match (error, consistent) {
                            (0, true) => Ok(answers),
                            (0, false) => Err(Errno::EINTR),
                            (error, _) => Err(Errno::from_raw(-error)),
                        };
                    }
                    _ => answers.push(body.to_vec()),
                }
            }
        }
    }
}

/// A message in the making.
struct Request {
    message: Vec<u8>,
}

impl Request {
    fn new(kind: u16, body: &[u8]) -> Self {
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(body);
        Request { message }
    }

    /// About one device, or about the one that the attributes name; with flags to set.
    fn link(kind: u16, link: u32, flags: u32) -> Self {
        let mut body = [0; LINK];
        body[4..8].copy_from_slice(&link.to_ne_bytes());
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        body[12..].copy_from_slice(&flags.to_ne_bytes());
        Request::new(kind, &body)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (ATTRIBUTE + value.len()) as u16;
        self.message.extend_from_slice(&length.to_ne_bytes());
        self.message.extend_from_slice(&kind.to_ne_bytes());
        self.message.extend_from_slice(value);
        self.message.resize(aligned(self.message.len()), 0);
    }

    fn finish(&mut self, flags: i32, sequence: u32) {
        let length = self.message.len() as u32;
        self.message[..4].copy_from_slice(&length.to_ne_bytes());
        self.message[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
        self.message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Of what is known to be there.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

/// The first message, and what follows it; none where there is no whole one.
fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
    Some((message, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// The first attribute's kind and value, and what follows it.
fn next_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let header = bytes.get(..ATTRIBUTE)?;
    let length = usize::from(u16_at(header, 0));
    let value = bytes.get(ATTRIBUTE..length)?;
    Some((u16_at(header, 2), value, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// What a message of type `RTM_NEWADDR` says, if it is about this device.
fn address(body: &[u8], link: u32) -> Option<Address> {
    if u32_at(body, 4)? != link {
        return None;
    }
    let [family, prefix, flags, scope] = [body[0], body[1], body[2], body[3]];
    let mut address =
        Address { family, prefix, scope, flags: flags.into(), attributes: Vec::new() };
    let mut rest = body.get(ADDRESS..)?;
    while let Some((kind, value, after)) = next_attribute(rest) {
        match kind {
            // The body has room for the first eight of them alone.
            libc::IFA_FLAGS => address.flags = u32_at(value, 0)?,
            // Not the label, which has the device's old name in it.
            libc::IFA_ADDRESS | libc::IFA_LOCAL | libc::IFA_BROADCAST | IFA_RT_PRIORITY => {
                address.attributes.push((kind, value.to_owned()));
            }
            _ => {}
        }
        rest = after;
    }
    Some(address)
}

/// The metric of the route that comes with an address.
const IFA_RT_PRIORITY: u16 = 9;

#[cfg(test)]
mod tests {
    use super::{Address, address, next, next_attribute};

    #[test]
    fn half_a_message_is_none() {
        for bytes in [&[][..], &[1, 0], &[255, 0, 0, 0, 1], &[4, 0, 0, 0, 9, 9, 9, 9]] {
            assert_eq!(next(bytes), None, "{bytes:?}");
            assert_eq!(address(bytes, 0), None, "{bytes:?}");
        }
        for bytes in [&[][..], &[4, 0, 1], &[0, 0, 1, 0, 5], &[9, 0, 1, 0, 5]] {
            assert_eq!(next_attribute(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn permanent_addresses_of_global_scope_are_told_from_others() {
        let given =
            |flags, scope| Address { family: 2, prefix: 24, scope, flags, attributes: Vec::new() };
        assert!(given(libc::IFA_F_PERMANENT, 0).is_permanent_and_global());
        assert!(!given(libc::IFA_F_PERMANENT, libc::RT_SCOPE_LINK).is_permanent_and_global());
        assert!(!given(0, 0).is_permanent_and_global());
    }
}
