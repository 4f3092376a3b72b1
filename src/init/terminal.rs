//! Standard streams of the container's program.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{Uid, fchown};

use super::{Child, Done, Failure, Root, channel};
use crate::sys::{fds, mount, path, pty};

impl Child<'_> {
    /// A pair from the container's own devpts: one end becomes the standard streams and
    /// `/dev/console`, the other goes to the parent.
    pub(super) fn terminal(
        &mut self,
        size: Option<pty::Size>,
        owner: Option<u32>,
        console: bool,
        plain_lines: bool,
    ) -> Done {
        let root = self.root()?;
        let ptmx = open_ptmx(&root)?;
        let peer = pty::open_peer(&ptmx).map_err(Failure::of("ioctl"))?;
        if let Some(size) = size {
            pty::resize(&peer, size).map_err(Failure::of("ioctl"))?;
        }
        if plain_lines {
            end_lines_plainly(&peer).map_err(Failure::of("tcsetattr"))?;
        }
        if let Some(owner) = owner {
            fchown(&peer, Some(Uid::from_raw(owner)), None).map_err(Failure::of("fchown"))?;
        }
        if console {
            show_console(&root, &peer)?;
        }
        channel::send_terminal(self.channel.as_fd(), ptmx.as_fd())
            .map_err(Failure::of("sendmsg"))?;
        pty::make_controlling(&peer).map_err(Failure::of("ioctl"))?;
        for number in 0..=2 {
            fds::install_stdio(&peer, number).map_err(Failure::of("dup2"))?;
        }
        Ok(())
    }

    pub(super) fn take_stdio(&mut self, owner: Option<u32>) -> Done {
        for (number, fd) in (0..).zip(self.stdio.take().into_iter().flatten()) {
            fds::install_stdio(fd, number).map_err(Failure::of("dup2"))?;
        }
        let root = self.root()?;
        (0..=2).for_each(|number| own_null(&root, number));
        if let Some(owner) = owner {
            (0..=2).for_each(|number| give_pipe(number, owner));
        }
        Ok(())
    }
}

/// A terminal puts a carriage return before each line's end for a screen to go back to the margin.
fn end_lines_plainly(terminal: &OwnedFd) -> nix::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(terminal, SetArg::TCSANOW, &settings)
}

/// The host's /dev/null is on a mount that the container has not: who looks at it from inside, and
/// criu above all, does not find it. One that the container has is as good.
fn own_null(root: &Root<'_>, number: i32) {
    let own = |flags| path::open_in(root, c"/dev/null", flags).ok().filter(|own| is_null(own));
    // Looked at before it is opened: a rootfs may have any device there, and some act on open(2).
    if !is_null(fds::stdio(number)) || own(OFlag::O_PATH).is_none() {
        return;
    }
    if let Some(own) = own(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK) {
        // Not to wait was for whatever else might have been there.
        let _ = fcntl(&own, FcntlArg::F_SETFL(OFlag::empty()));
        let _ = fds::install_stdio(own, number);
    }
}

fn is_null(file: impl AsFd) -> bool {
    fstat(file).is_ok_and(|stat| {
        stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3)
    })
}

/// A program that is not root opens /dev/stdout anew, which asks for the file's permission. A pipe
/// was made for it and can be given away; the caller's own files and terminal cannot.
fn give_pipe(number: i32, owner: u32) {
    let stream = fds::stdio(number);
    let is_pipe = fstat(stream)
        .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) == SFlag::S_IFIFO);
    if is_pipe {
        // Not fatal: what is open already works without.
        let _ = fchown(stream, Some(Uid::from_raw(owner)), None);
    }
}

/// The container's `/dev/pts/ptmx`, which must really be one: a rootfs might have put a device of
/// its choice there.
fn open_ptmx(root: &Root<'_>) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let ptmx = path::open_in_nofollow(root, c"/dev/pts/ptmx", flags).map_err(|errno| Failure {
        call: "openat2",
        errno,
        detail: "a terminal needs a devpts mounted on /dev/pts".to_owned(),
    })?;
    let of_devpts = fstatfs(&ptmx).is_ok_and(|fs| fs.filesystem_type() == DEVPTS_SUPER_MAGIC);
    let number = fstat(&ptmx).map(|stat| stat.st_rdev).unwrap_or(0);
    if !of_devpts || number != libc::makedev(5, 2) {
        let detail = "/dev/pts/ptmx is not of a devpts".to_owned();
        return Err(Failure { call: "openat2", errno: Errno::ENOTTY, detail });
    }
    Ok(ptmx)
}

fn show_console(root: &Root<'_>, peer: &OwnedFd) -> Done {
    let target = path::make_file_in(root, c"/dev/console", Mode::from_bits_truncate(0o620))
        .map_err(Failure::of("openat2"))?;
    let shown = mount::clone_tree(peer.as_fd(), c"", false).map_err(Failure::of("open_tree"))?;
    mount::attach(shown, target).map_err(Failure::of("move_mount"))
}
