//! A small process that clones in the command line's place.
//!
//! What enters a container can be reached from inside through `/proc`, its own executable too: a
//! process in there could write to that file and have the host run it (CVE-2019-5736). So whatever
//! enters runs from a file that nobody can write to, and the command line, which was started from
//! another, starts itself again from one and hands it the finished plan. The two work side by side
//! until the plan is ready.
//!
//! That file is the command line's own, seen through an overlay. Where there is none, as for an
//! ordinary user, it is a sealed copy in memory; and since the command line is large and a fresh
//! page dear, a copy of a small program, which holds the plan's steps and nothing that reads a
//! config.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::birth::{Here, Newborn};
use super::network::SpareNetwork;
use crate::error::{Error, Kind, Result};
use crate::init::{self, Inherited};
use crate::plan::Plan;
use crate::sys::clone::{SingleThreaded, Strings};
use crate::sys::overlay::{self, SealedView};
use crate::sys::{fds, memfd, privilege, socket, spawn};

/// The argument that makes a program the stage; the next one is its descriptor's number.
pub const ARGUMENT: &str = "stage";

/// The small program, where this one was built with it.
pub type StageProgram = Option<&'static [u8]>;

/// A stage that waits for its plan.
#[derive(Debug)]
pub struct Stage {
    pid: Pid,
    /// Closed before it is waited for: it waits for its order or for that.
    channel: Option<OwnedFd>,
    image: Option<Image>,
}

/// What a stage and its children run from. The kernel waits for grace periods when its last user is
/// gone: that should not be the container's init, on its way to the program.
#[derive(Debug)]
pub struct Image {
    file: OwnedFd,
    /// The overlay's, if it is seen through one.
    _mount: Option<OwnedFd>,
}

/// What a stage is asked; the plan is borrowed on one side and owned on the other.
#[derive(Debug, Serialize, Deserialize)]
enum Asked<P> {
    /// Enter a new network namespace while the plan is not ready yet.
    Network,
    /// Clone the child. The descriptors come in a message of their own.
    Clone { plan: P, given: Given },
}

/// Which descriptors come along, in this order, after the child's channel.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Given {
    born_in: bool,
    start_socket: bool,
    container: bool,
    stdio: bool,
}

/// The child's number and whether it was born in its cgroup; its pidfd comes along.
type Reply = std::result::Result<(i32, bool), Error>;

impl Stage {
    /// Starts one, which inherits what descriptors this process was started with.
    ///
    /// `program` is the small one, for where this program cannot be had but as a copy; where this
    /// binary was built without it, a copy of this binary does the same, later.
    ///
    /// # Errors
    /// There is no memory for it, or it cannot be executed.
    pub fn start(program: StageProgram) -> Result<Self> {
        let failed = |call: &str, errno| Error::call(call, "of what clones the container", errno);
        let image = match overlay::sealed_view() {
            Ok(SealedView { file, mount }) => Image { file, _mount: Some(mount) },
            Err(_) => {
                let copy = sealed_copy(program).map_err(|errno| failed("memfd_create", errno))?;
                Image { file: copy, _mount: None }
            }
        };
        let (ours, theirs) = socket::pair().map_err(|errno| failed("socketpair", errno))?;
        // Free here, so it is none of those that the container's program may want.
        let number = theirs.as_raw_fd();
        let words = |words: &[String]| {
            let words = words.iter().map(|word| CString::new(word.as_str()));
            words.collect::<std::result::Result<Vec<_>, _>>().map(Strings::new)
        };
        let (Ok(argv), Ok(envp), Ok(path)) = (
            words(&["rscontainer".to_owned(), ARGUMENT.to_owned(), number.to_string()]),
            words(&[]),
            CString::new(format!("/proc/self/fd/{}", image.file.as_raw_fd())),
        ) else {
            return Err(failed("execve", Errno::EINVAL));
        };
        let options =
            spawn::SpawnOptions { fds: vec![(theirs.as_fd(), number)], ..Default::default() };
        let pid = spawn::spawn(&path, &argv, &envp, &options)
            .map_err(|errno| failed("posix_spawn", errno))?;
        Ok(Stage { pid, channel: Some(ours), image: Some(image) })
    }

    /// Hands over what it runs from, to be dropped where nobody waits for that; else it goes with the
    /// stage, when the child is on its way.
    pub fn take_image(&mut self) -> Option<Image> {
        self.image.take()
    }

    /// Lets it make the container's network namespace while the plan is not ready yet.
    pub fn make_network(&self) {
        // Whether it is gone is heard soon enough.
        let _ = self.ask(&Asked::<()>::Network);
    }

    /// Lets it clone the child, which [`newborn`](Self::newborn) then tells of.
    pub(super) fn order(
        &self,
        plan: &Plan,
        born_in: Option<OwnedFd>,
        inherited: &Inherited,
    ) -> Result<()> {
        let Inherited { channel, start_socket, container, stdio } = inherited;
        let given = Given {
            born_in: born_in.is_some(),
            start_socket: start_socket.is_some(),
            container: container.is_some(),
            stdio: stdio.is_some(),
        };
        let mut fds = vec![channel.as_fd()];
        let singles = [&born_in, start_socket, container];
        fds.extend(singles.into_iter().flatten().chain(stdio.iter().flatten()).map(AsFd::as_fd));
        self.ask(&Asked::Clone { plan, given })?;
        socket::send(self.channel()?, b"descriptors", &fds).map_err(gone)
    }

    pub(super) fn newborn(&self) -> Result<Newborn> {
        let reply = receive(self.channel()?).map_err(gone)?;
        let (text, mut fds) = reply.ok_or_else(|| gone(Errno::ECONNRESET))?;
        let reply = postcard::from_bytes::<Reply>(&text).map_err(|_| gone(Errno::EBADMSG))?;
        let (pid, born_inside) = reply?;
        let pidfd = fds.pop().ok_or_else(|| gone(Errno::EBADMSG))?;
        Ok(Newborn { pid: Pid::from_raw(pid), pidfd, born_inside })
    }

    fn ask<P: Serialize>(&self, asked: &Asked<P>) -> Result<()> {
        let text = postcard::to_allocvec(asked).map_err(|_| gone(Errno::EOVERFLOW))?;
        init::send_text(self.channel()?, &text).map_err(gone)
    }

    fn channel(&self) -> Result<BorrowedFd<'_>> {
        self.channel.as_ref().map(AsFd::as_fd).ok_or_else(|| gone(Errno::EBADF))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.channel = None;
        while nix::sys::wait::waitpid(self.pid, None) == Err(Errno::EINTR) {}
    }
}

/// What was asked of a stage that is not there any more.
fn gone(errno: Errno) -> Error {
    Error::call("sendmsg", "to the process that clones the container", errno)
        .hint("it was killed, or there is no memory left for it")
}

fn receive(channel: BorrowedFd<'_>) -> nix::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut text = vec![0; 8192];
    loop {
        match socket::receive(channel, &mut text) {
            Err(Errno::EINTR) => {}
            received => {
                return received.map(|message| {
                    message.map(|(read, fds)| {
                        text.truncate(read);
                        (text, fds)
                    })
                });
            }
        }
    }
}

fn sealed_copy(program: StageProgram) -> nix::Result<OwnedFd> {
    match program {
        Some(program) => memfd::sealed_image(program),
        None => File::open("/proc/self/exe")
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .and_then(|own| memfd::sealed_copy(&own)),
    }
}

/// Runs a stage, on the channel whose number is the program's second argument.
pub fn run() -> u8 {
    // Before it joins anything: what is in there must not read its memory.
    let hidden = privilege::set_dumpable(false);
    let number = std::env::args().nth(2).and_then(|number| number.parse().ok());
    let channel = number.ok_or(Errno::EBADF).and_then(fds::inherited);
    let (Ok(()), Ok(channel)) = (hidden, channel) else { return 1 };
    let _ = privilege::set_name(c"rsc:[stage]");
    match serve(&channel) {
        Ok(()) => 0,
        Err(error) => {
            reply(&channel, &Err(error), &[]);
            1
        }
    }
}

/// Does what is asked until a child is cloned, or nobody asks any more.
fn serve(channel: &OwnedFd) -> Result<()> {
    let mut network = None;
    while let Some(asked) = init::receive_text(channel.as_fd()).map_err(gone)? {
        match postcard::from_bytes(&asked) {
            Ok(Asked::<Plan>::Network) => network = SpareNetwork::make_for_good(),
            Ok(Asked::Clone { plan, given }) => {
                let received = receive(channel.as_fd()).map_err(gone)?;
                let Some((_, fds)) = received else { break };
                let Newborn { pid, pidfd, born_inside } = clone(&plan, given, fds, network)?;
                reply(channel, &Ok((pid.as_raw(), born_inside)), &[pidfd.as_fd()]);
                break;
            }
            Err(_) => return Err(gone(Errno::EBADMSG)),
        }
    }
    Ok(())
}

fn clone(
    plan: &Plan,
    given: Given,
    fds: Vec<OwnedFd>,
    network: Option<SpareNetwork>,
) -> Result<Newborn> {
    let mut fds = fds.into_iter();
    let mut next = |given: bool| if given { fds.next() } else { None };
    let channel = next(true).ok_or_else(|| gone(Errno::EBADF))?;
    let born_in = next(given.born_in);
    let start_socket = next(given.start_socket);
    let container = next(given.container);
    let stdio = match [next(given.stdio), next(given.stdio), next(given.stdio)] {
        [Some(stdin), Some(stdout), Some(stderr)] => Some([stdin, stdout, stderr]),
        _ => None,
    };
    let Some(proof) = SingleThreaded::prove() else {
        return Err(Error::new(Kind::Other, "what clones the container has more than one thread"));
    };
    let inherited = Inherited { channel, start_socket, stdio, container };
    Here { proof, network }.clone(plan, born_in, inherited)
}

fn reply(channel: &OwnedFd, reply: &Reply, fds: &[BorrowedFd<'_>]) {
    let text = postcard::to_allocvec(reply).unwrap_or_default();
    // Whoever asked may be gone; then the child hears it on its own channel.
    let _ = socket::send(channel, &text, fds);
}
