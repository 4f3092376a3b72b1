//! A worker: serves one request by the code that the command line runs, and ends.
//!
//! Its working directory, umask and limits become the request's, and end with
//! it. What a request breaks, it breaks here.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::value::RawValue;

use super::request::{self, Reply, Request, Served, Verb};
use super::server::{Claim, Owned};
use crate::container::{self, Config, Created, Creation, Execution, Restoration, Running};
use crate::criu::Parent;
use crate::error::{Error, Kind, Result};
use crate::launch::{Announced, Cradle, Here, SpareNetwork};
use crate::plan::Facts;
use crate::plan::step::StartSignal;
use crate::state::{ProcessId, Root};
use crate::sys::clone::{SingleThreaded, exit_now};
use crate::sys::{fds, pidfd, privilege, socket};

/// What a worker knows from its launcher.
pub(super) struct Host<'a> {
    pub(super) facts: &'a Facts,
    pub(super) proof: SingleThreaded,
}

/// Waits for a request on `requests`, serves it, ends.
pub(super) fn run(
    requests: &OwnedFd,
    launcher: &OwnedFd,
    host: Host<'_>,
    expects_container: bool,
) -> ! {
    let _ = privilege::set_name(c"rsc:[worker]");
    // A container is likely to want a network of its own; an exec has no use for one.
    let network = if expects_container { SpareNetwork::make() } else { None };
    if let Some(caller) = next_request(requests, launcher) {
        // With the launcher gone there is nobody to fork the next spare, and this request is served
        // all the same.
        let _ = socket::send(launcher, b"busy", &[]);
        // While anybody holds the launcher's end of the requests' socket, the caller does not see
        // that the launcher is gone.
        let mut kept = vec![caller.as_fd(), launcher.as_fd()];
        kept.extend(network.as_ref().and_then(SpareNetwork::home));
        let _ = fds::close_all_but(3, &kept);
        Serving { caller, launcher, host }.serve(network);
    }
    exit_now(0)
}

/// The socket of the next request; none when launcher or caller are gone.
fn next_request(requests: &OwnedFd, launcher: &OwnedFd) -> Option<OwnedFd> {
    let mut fds = [
        PollFd::new(requests.as_fd(), PollFlags::POLLIN),
        PollFd::new(launcher.as_fd(), PollFlags::empty()),
    ];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        if fds[1].revents().is_some_and(|events| !events.is_empty()) {
            return None;
        }
        match socket::receive(requests, &mut [0; 64]) {
            Err(Errno::EINTR) => {}
            received => return received.ok()??.1.pop(),
        }
    }
}

struct Serving<'a> {
    caller: OwnedFd,
    launcher: &'a OwnedFd,
    host: Host<'a>,
}

impl Serving<'_> {
    fn serve(&self, network: Option<SpareNetwork>) {
        let received = request::receive(&self.caller, || Ok(()));
        let Ok(Some((text, fds))) = received else { return };
        // From here on it may have done something, and is not handed to another.
        let _ = socket::send(&self.caller, b"taken", &[]);
        let request = match serde_json::from_slice::<Request>(&text) {
            Ok(request) => request,
            Err(error) => {
                let error = Error::new(Kind::Other, format!("read a request: {error}"));
                return self.reply(&Err(error), &[]);
            }
        };
        request.ambient.assume();
        let warnings = RefCell::new(Vec::new());
        let warn = |warning: &str| warnings.borrow_mut().push(warning.to_owned());
        let serve = || self.carry_out(&request, fds, network, &warn);
        let served = catch_unwind(AssertUnwindSafe(serve));
        let served = served.unwrap_or_else(|_| {
            Err(Error::new(Kind::Other, "the runtime panicked while it served this request"))
        });
        match served {
            Err(error) => self.reply(&Err(error), &[]),
            Ok((running, created)) => {
                let mut fds = vec![running.pidfd.as_fd()];
                fds.extend(running.terminal.as_ref().map(AsFd::as_fd));
                let served = Served { pid: running.pid.as_raw(), warnings: warnings.take() };
                self.reply(&Ok(served), &fds);
                if !self.is_kept() {
                    take_back(&running, created);
                }
            }
        }
    }

    fn reply(&self, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        let text = serde_json::to_vec(reply).unwrap_or_default();
        // A caller that is gone is noticed right after.
        let _ = request::send(&self.caller, &text, fds);
    }

    /// Whether the caller has what was sent: it may have given up while it waited.
    fn is_kept(&self) -> bool {
        loop {
            match socket::receive(&self.caller, &mut [0; 64]) {
                Err(Errno::EINTR) => {}
                received => return matches!(received, Ok(Some(_))),
            }
        }
    }

    fn carry_out(
        &self,
        request: &Request,
        fds: Vec<OwnedFd>,
        network: Option<SpareNetwork>,
        warn: &dyn Fn(&str),
    ) -> Result<(Running, Option<Created>)> {
        let [stdin, stdout, stderr, status] = <[OwnedFd; 4]>::try_from(fds)
            .map_err(|_| Error::new(Kind::Other, "a request comes with four descriptors"))?;
        let root = Root::new(Some(&request.root))?;
        let stdio = Some([stdin, stdout, stderr]);
        let mut announce = |announced: Announced<'_>| {
            let (pid, process) = match announced {
                Announced::Child(pid, process) => (pid, process),
                Announced::Forerunner(ended) => {
                    let _ = socket::send(self.launcher, b"ended", &[ended]);
                    return;
                }
            };
            let container = match (&request.verb, ProcessId::of(pid)) {
                (Verb::Create { .. } | Verb::Restore { .. }, Ok(init)) => {
                    Some(Owned { root: request.root.clone(), id: request.id.clone(), init })
                }
                _ => None,
            };
            let claim = Claim { container, attached: request.attached };
            let claim = serde_json::to_vec(&claim).unwrap_or_default();
            // Without a launcher the container is not reaped by us, and lives all the same.
            let _ = socket::send(self.launcher, &claim, &[process, status.as_fd()]);
        };
        let kept = |(running, created)| (running, Some(created));
        match &request.verb {
            Verb::Create { bundle, config, start, args, terminal } => {
                let mut config = read_config(config.as_deref(), bundle)?;
                config.override_process(args.as_ref(), *terminal);
                let start = if *start { StartSignal::Parent } else { StartSignal::Socket };
                container::create(Creation {
                    root: &root,
                    id: &request.id,
                    bundle,
                    config,
                    start,
                    stdio,
                    keep_descriptors: 0,
                    session_keyring: true,
                    plain_lines: false,
                    pivot: true,
                    notify: None,
                    facts: self.host.facts,
                    warn,
                    cradle: Cradle::Here(Here { proof: self.host.proof, network }),
                    announce: Some(&mut announce),
                })
                .map(kept)
            }
            Verb::Restore { bundle, config, options, program } => {
                network.map_or(Ok(()), SpareNetwork::leave)?;
                container::restore(Restoration {
                    root: &root,
                    id: &request.id,
                    bundle,
                    config: read_config(config.as_deref(), bundle)?,
                    options,
                    program,
                    parent: Parent::Above(self.host.proof),
                    stdio,
                    facts: self.host.facts,
                    warn,
                    announce: Some(&mut announce),
                })
                .map(kept)
            }
            Verb::Exec { process, cgroups } => {
                network.map_or(Ok(()), SpareNetwork::leave)?;
                container::exec(Execution {
                    root: &root,
                    id: &request.id,
                    process: &|spec| process.over(spec),
                    stdio,
                    keep_descriptors: 0,
                    cgroups,
                    plain_lines: false,
                    ignore_paused: false,
                    facts: self.host.facts,
                    cradle: Cradle::Here(Here { proof: self.host.proof, network: None }),
                    warn,
                    announce: Some(&mut announce),
                })
                .map(|running| (running, None))
            }
        }
    }
}

fn take_back(running: &Running, created: Option<Created>) {
    let _ = pidfd::send_signal(&running.pidfd, libc::SIGKILL);
    // Whatever cannot be taken away stays on record for a later delete.
    let _ = created.map(Created::delete);
}

fn read_config(config: Option<&RawValue>, bundle: &Path) -> Result<Config> {
    match config {
        Some(config) => Config::parse(config.get().as_bytes().to_vec()),
        None => Config::read(bundle),
    }
}
