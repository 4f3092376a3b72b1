//! A checkpoint as a request to criu.

use std::path::Path;

use super::descriptors::Descriptors;
use super::external::External;
use super::namespaces::Joined;
use super::options::Options;
use super::program::{Program, bytes};
use super::rpc::{Features, PageServerInfo, RequestOptions, kind};
use super::session::{Notification, Session, version};
use crate::error::{Error, Kind, Result};
use crate::interrupt::Interrupt;
use crate::plan::Plan;
use crate::sys::fds;

/// What is written to disk.
#[derive(Debug)]
pub struct Dump<'a> {
    /// How.
    pub options: &'a Options,
    /// The container's init.
    pub init: i32,
    /// Its rootfs on the host.
    pub rootfs: &'a Path,
    /// Its plan, by which its mounts and namespaces are known.
    pub plan: &'a Plan,
    /// The cgroup whose freezer stops its processes, and whether it is one of version 2.
    pub freezer: Option<(&'a Path, bool)>,
    /// Its standard streams.
    pub descriptors: &'a Descriptors,
    /// The file with more options, where an annotation names one.
    pub config_file: Option<&'a str>,
}

/// Of criu's log.
const LOG: &str = "dump.log";

impl Dump<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// criu is not there, is too old, or refuses; then the container runs on.
    pub fn carry_out(&self, interrupt: Interrupt<'_>) -> Result<()> {
        let options = self.options;
        options.check_parent()?;
        let program = Program::find()?;
        options.make_images()?;
        let folders = options.open_folders()?;
        let session = Session::greet(&program)?;
        let mut request = options.request(&folders, LOG, self.config_file);
        self.fill(&session, &mut request)?;
        if !options.pre_dump {
            self.describe(&mut request)?;
            self.descriptors.save(&options.images)?;
        }
        let kind = if options.pre_dump { kind::PRE_DUMP } else { kind::DUMP };
        let mut notified = |notification| self.notified(&notification);
        session.carry_out(kind, request, &options.log(LOG), &mut notified, interrupt)
    }

    fn fill(&self, session: &Session, request: &mut RequestOptions) -> Result<()> {
        let options = self.options;
        request.pid = Some(self.init);
        request.root = Some(bytes(self.rootfs));
        request.leave_running = Some(options.leave_running);
        request.tcp_skip_in_flight = Some(options.tcp_skip_in_flight);
        request.link_remap = Some(options.link_remap);
        request.track_mem = options.parent.as_ref().map(|_| true);
        request.page_server = options.page_server.as_ref().map(|server| PageServerInfo {
            address: Some(server.address.clone().into_bytes()),
            port: Some(server.port.into()),
        });
        // Without a freezer criu stops one process after the other, by ptrace(2).
        let freezer = self.freezer.filter(|(_, v2)| !v2 || session.has(version(3, 14, 0)));
        request.freeze_cgroup = freezer.map(|(path, _)| bytes(path));
        for joined in Joined::of(self.plan) {
            joined.supported(session)?;
            request.external.extend(joined.for_dump(self.init)?);
        }
        if options.pre_dump {
            session.need_features(Features { mem_track: Some(true), lazy_pages: None })?;
        }
        if options.lazy_pages {
            session.need_features(Features { mem_track: None, lazy_pages: Some(true) })?;
            if let Some(number) = options.status_fd {
                check_status_fd(number)?;
                // Later ones tell of it.
                request.status_fd = Some(number).filter(|_| !session.has(STATUS_READY));
            }
        }
        Ok(())
    }

    /// The mounts that are not criu's to write.
    fn describe(&self, request: &mut RequestOptions) -> Result<()> {
        let path = format!("/proc/{}/root", self.init);
        let root = super::options::open_folder(Path::new(&path))?;
        for external in External::of(self.plan) {
            request.external.extend(external.for_dump(&root)?);
        }
        Ok(())
    }

    fn notified(&self, notification: &Notification) -> Result<()> {
        if let (Some(number), "status-ready") = (self.options.status_fd, &*notification.script) {
            let copy = fds::duplicate(number);
            let written = copy.and_then(|copy| nix::unistd::write(copy, &[0]));
            written.map_err(|errno| Error::call("write", "to --status-fd", errno))?;
        }
        Ok(())
    }
}

/// The first criu that notifies of it.
const STATUS_READY: i32 = version(3, 15, 0);

fn check_status_fd(number: i32) -> Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let copy = fds::duplicate(number)
        .map_err(|errno| Error::call("dup", format!("--status-fd {number}"), errno))?;
    let flags = fcntl(&copy, FcntlArg::F_GETFL).unwrap_or(0);
    if OFlag::from_bits_truncate(flags & libc::O_ACCMODE) == OFlag::O_RDONLY {
        let message = format!("--status-fd {number} is not writable");
        return Err(Error::new(Kind::Other, message)
            .hint(format!("open it for writing, as a shell does by {number}>FILE")));
    }
    Ok(())
}
