//! What the child and its parent say to each other: a few numbers, and for a failure its words.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;

use super::Failure;
use crate::sys::socket;

/// Bytes before a message's text.
const HEADER: usize = 8;
/// Bytes in a message of the child at most: a hook's last words fit in.
const LONGEST_MESSAGE: usize = 2048;

/// A message of the child.
#[derive(Debug)]
pub enum Message {
    /// It has come to a step at which the parent has something to do.
    Reached(usize),
    /// It has cloned again: from here on this is the child, and the sender ends.
    Born(Pid, OwnedFd),
    /// The container's end of its terminal is in place; this is the other one.
    Terminal(OwnedFd),
    /// Calls wait for an answer from now on; this is where they are heard.
    Listener(OwnedFd),
    /// A step failed, and the child is ending.
    Failed {
        /// Which step of the plan.
        step: usize,
        /// Which system call.
        call: String,
        /// Why.
        errno: Errno,
        /// What else the kernel or the step had to say.
        detail: Option<String>,
    },
}

const REACHED: u8 = 1;
const TERMINAL: u8 = 2;
const FAILED: u8 = 3;
const BORN: u8 = 4;
const LISTENER: u8 = 5;

fn header(tag: u8, step: usize, number: i32) -> [u8; HEADER] {
    let mut message = [0; HEADER];
    message[0] = tag;
    // A plan has a few hundred steps.
    message[2..4].copy_from_slice(&(step as u16).to_le_bytes());
    message[4..8].copy_from_slice(&number.to_le_bytes());
    message
}

/// Texts up to here go in a message, longer ones in a file along with it.
const LONGEST_TEXT: usize = 32 * 1024;

/// Sends a text of any length: the container's state, which annotations may make as long as they
/// like, or a plan.
///
/// # Errors
/// memfd_create(2)'s, write(2)'s, sendmsg(2)'s.
pub fn send_text(socket: BorrowedFd<'_>, text: &[u8]) -> nix::Result<()> {
    if text.len() <= LONGEST_TEXT {
        return socket::send(socket, text, &[]);
    }
    let mut file = File::from(memfd_create(c"text", MFdFlags::MFD_CLOEXEC)?);
    let written = file.write_all(text).and_then(|()| file.seek(SeekFrom::Start(0)));
    written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    socket::send(socket, b"file", &[file.as_fd()])
}

/// Receives what [`send_text`] sent; none when the other end is closed.
///
/// # Errors
/// recvmsg(2)'s, read(2)'s.
pub fn receive_text(socket: BorrowedFd<'_>) -> nix::Result<Option<Vec<u8>>> {
    let mut text = vec![0; LONGEST_TEXT];
    let received = loop {
        match socket::receive(socket, &mut text) {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    let Some((read, mut fds)) = received else { return Ok(None) };
    text.truncate(read);
    if let Some(file) = fds.pop() {
        text.clear();
        File::from(file)
            .read_to_end(&mut text)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    }
    Ok(Some(text))
}

/// Receives what the parent hands over; none when the other end is closed.
pub(super) fn receive_descriptors(socket: BorrowedFd<'_>) -> nix::Result<Option<Vec<OwnedFd>>> {
    loop {
        match socket::receive(socket, &mut [0; 64]) {
            Err(Errno::EINTR) => {}
            received => return received.map(|message| message.map(|(_, fds)| fds)),
        }
    }
}

/// Tells the parent that a step is reached.
pub(super) fn send_reached(channel: BorrowedFd<'_>, step: usize) -> nix::Result<()> {
    socket::send(channel, &header(REACHED, step, 0), &[])
}

/// Hands the parent its end of the terminal.
pub(super) fn send_terminal(channel: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> nix::Result<()> {
    socket::send(channel, &header(TERMINAL, 0, 0), &[terminal])
}

/// Hands the parent the child that goes on.
pub(super) fn send_born(channel: BorrowedFd<'_>, pid: Pid, pidfd: &OwnedFd) -> nix::Result<()> {
    socket::send(channel, &header(BORN, 0, pid.as_raw()), &[pidfd.as_fd()])
}

/// Hands the parent the listener of a filter of system calls.
pub(super) fn send_listener(channel: BorrowedFd<'_>, listener: BorrowedFd<'_>) -> nix::Result<()> {
    socket::send(channel, &header(LISTENER, 0, 0), &[listener])
}

/// Tells whoever waits that a step failed; a peer that is gone needs no telling.
pub(super) fn send_failed(channel: BorrowedFd<'_>, step: usize, failure: &Failure) {
    let header = header(FAILED, step, failure.errno as i32);
    let mut message = [&header, failure.call.as_bytes(), &[0], failure.detail.as_bytes()].concat();
    message.truncate(LONGEST_MESSAGE);
    let _ = socket::send(channel, &message, &[]);
}

/// Receives the child's next message; none when it has run its program or died.
///
/// # Errors
/// EBADMSG for what no child of ours sends; else recvmsg(2)'s.
pub fn receive(channel: BorrowedFd<'_>) -> nix::Result<Option<Message>> {
    let mut buffer = [0; LONGEST_MESSAGE];
    let received = loop {
        match socket::receive(channel, &mut buffer) {
            Err(Errno::EINTR) => {}
            // A child that was killed with something of ours unread resets the connection.
            Err(Errno::ECONNRESET) => return Ok(None),
            received => break received?,
        }
    };
    let Some((length, mut fds)) = received else { return Ok(None) };
    if length < HEADER {
        return Err(Errno::EBADMSG);
    }
    let step = usize::from(u16::from_le_bytes([buffer[2], buffer[3]]));
    let number = i32::from_le_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
    match (buffer[0], fds.pop()) {
        (BORN, Some(pidfd)) => Ok(Some(Message::Born(Pid::from_raw(number), pidfd))),
        (REACHED, None) => Ok(Some(Message::Reached(step))),
        (TERMINAL, Some(terminal)) => Ok(Some(Message::Terminal(terminal))),
        (LISTENER, Some(listener)) => Ok(Some(Message::Listener(listener))),
        (FAILED, None) => {
            let errno = Errno::from_raw(number);
            let mut texts = buffer[HEADER..length].split(|byte| *byte == 0);
            let mut text = || texts.next().map(|text| String::from_utf8_lossy(text).into_owned());
            let call = text().unwrap_or_default();
            let detail = text().filter(|detail| !detail.is_empty());
            Ok(Some(Message::Failed { step, call, errno, detail }))
        }
        _ => Err(Errno::EBADMSG),
    }
}
