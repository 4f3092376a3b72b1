//! Messages with descriptors over a `SOCK_SEQPACKET` pair (unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

/// The descriptors that one message carries at most.
pub const MOST_FDS: usize = 64;

/// A connected pair; both ends close on exec.
pub fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends one message, without SIGPIPE.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
    send_some(socket, bytes, fds).map(drop)
}

/// Sends all of the bytes on a stream, the descriptors with the first of them.
pub fn send_stream(
    socket: impl AsFd,
    mut bytes: &[u8],
    mut fds: &[BorrowedFd<'_>],
) -> nix::Result<()> {
    while !bytes.is_empty() {
        let sent = send_some(&socket, bytes, std::mem::take(&mut fds))?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

fn send_some(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<usize> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let data = [IoSlice::new(bytes)];
    loop {
        let fd = socket.as_fd().as_raw_fd();
        match sendmsg::<()>(fd, &data, control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            sent => return sent,
        }
    }
}

/// Receives one message into `buffer`; none when the other end is closed.
///
/// A message that does not fit, or with more descriptors than fit, is EMSGSIZE.
/// EINTR is passed on, for Python looks at its signals then.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> nix::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut control = nix::cmsg_space!([RawFd; MOST_FDS]);
    let mut data = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let socket = socket.as_fd().as_raw_fd();
    let message = match recvmsg::<()>(socket, &mut data, Some(&mut control), flags) {
        // The peer has closed its end with something of ours unread. The kernel says so once, before
        // what the peer had said; that is still there.
        Err(Errno::ECONNRESET) => recvmsg::<()>(socket, &mut data, Some(&mut control), flags),
        received => received,
    }?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    let read = message.bytes;
    Ok((read > 0 || !fds.is_empty()).then_some((read, fds)))
}

/// A listening socket at `name` in the folder `folder`; its name may be as long as a file's.
pub fn listen_in(folder: impl AsFd, name: &str) -> nix::Result<OwnedFd> {
    use nix::sys::socket::{Backlog, bind, listen, socket};
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(socket.as_raw_fd(), &address_in(folder, name)?)?;
    listen(&socket, Backlog::new(16)?)?;
    Ok(socket)
}

/// Connects to the socket at `name` in the folder `folder`.
pub fn connect_in(folder: impl AsFd, name: &str) -> nix::Result<OwnedFd> {
    use nix::sys::socket::{connect, socket};
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(socket.as_raw_fd(), &address_in(folder, name)?)?;
    Ok(socket)
}

/// An address has room for 108 bytes of path; through the descriptor any folder fits.
fn address_in(folder: impl AsFd, name: &str) -> nix::Result<nix::sys::socket::UnixAddr> {
    let folder = folder.as_fd().as_raw_fd();
    nix::sys::socket::UnixAddr::new(format!("/proc/self/fd/{folder}/{name}").as_str())
}

/// accept4(2), restarted when interrupted.
pub fn accept(socket: impl AsFd) -> nix::Result<OwnedFd> {
    loop {
        let fd = nix::sys::socket::accept4(socket.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC);
        match fd {
            Err(Errno::EINTR) => {}
            // SAFETY: the call succeeded and returned a new descriptor, which nobody else owns.
            fd => return fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }
}

/// Connects to a stream socket by path, as engines listen on.
pub fn connect_stream(path: &std::path::Path) -> nix::Result<OwnedFd> {
    use nix::sys::socket::{UnixAddr, connect, socket};
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::{pair, receive, send};

    #[test]
    fn what_a_peer_said_outlives_what_it_left_unread() {
        let (ours, theirs) = pair().expect("a pair");
        send(&ours, b"never read", &[]).expect("room");
        send(&theirs, b"last words", &[]).expect("room");
        drop(theirs);
        let mut buffer = [0; 16];
        let (read, _) = receive(&ours, &mut buffer).expect("no error").expect("a message");
        assert_eq!(&buffer[..read], b"last words");
        assert!(receive(&ours, &mut buffer).expect("no error").is_none());
    }
}
