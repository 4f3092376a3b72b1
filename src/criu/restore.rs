//! A restore as a request to criu.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::unistd::Pid;

use super::descriptors::Descriptors;
use super::external::External;
use super::namespaces::{Joined, Told};
use super::options::{Folders, Options};
use super::program::{Program, bytes};
use super::rpc::{CgroupRoot, RequestOptions, kind};
use super::session::{Notification, Parent, Session, version};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::plan::Plan;

/// What is brought back.
#[derive(Debug)]
pub struct Restore<'a> {
    /// How.
    pub options: &'a Options,
    /// The program.
    pub program: &'a Program,
    /// Where its root is, for criu to find: a mount of its own, which nothing covers.
    pub root: &'a Path,
    /// Its plan, by which its mounts and namespaces are known.
    pub plan: &'a Plan,
    /// What its pipes become; none for this process's streams.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    /// The file with more options, where an annotation names one.
    pub config_file: Option<&'a str>,
}

/// A criu that has not been told yet what to restore.
#[derive(Debug)]
pub struct Restorer<'a> {
    options: &'a Options,
    session: Session,
    request: RequestOptions,
    /// Found by criu through this process.
    _folders: Folders,
}

/// Of criu's log.
const LOG: &str = "restore.log";

impl<'a> Restore<'a> {
    /// Starts criu in the mount namespace that this process is in now. Nothing is made yet: the
    /// container's processes will be in the cgroups that criu is in when it is told.
    ///
    /// # Errors
    /// There are no images; criu is too old.
    pub fn start(&self, parent: Parent) -> Result<Restorer<'a>> {
        let options = self.options;
        // Asked of another, for one that is another's child cannot be waited for here.
        let asked = Session::greet(self.program)?;
        let descriptors = Descriptors::load(&options.images)?;
        let folders = options.open_folders()?;
        let mut request = options.request(&folders, LOG, self.config_file);
        // It is the images that know of it.
        request.parent_images = None;
        request.root = Some(bytes(self.root));
        request.restore_sibling = Some(true);
        // Device nodes whose path has changed are found by their number.
        request.evasive_devices = Some(true);
        request.external = External::of(self.plan).iter().map(External::for_restore).collect();
        request.inherit_fds = descriptors.pipes().collect();
        let text = |text: &Option<String>| text.clone().map(String::into_bytes);
        request.lsm_profile = text(&options.lsm_profile);
        request.lsm_mount_context = text(&options.lsm_mount_context);
        if request.lsm_profile.is_some() || request.lsm_mount_context.is_some() {
            asked.need(version(3, 16, 0), "other security labels")?;
        }
        let namespaces = self.namespaces(&asked, &mut request)?;
        drop(asked);
        // A job of the caller's shell comes back into the caller's session, by way of criu's.
        let new_session = !options.shell_job;
        let session = Session::start(self.program, parent, self.stdio, &namespaces, new_session)?;
        Ok(Restorer { options, session, request, _folders: folders })
    }

    fn namespaces(&self, session: &Session, request: &mut RequestOptions) -> Result<Vec<OwnedFd>> {
        let mut inherited = Vec::new();
        for joined in Joined::of(self.plan) {
            joined.supported(session)?;
            match joined.for_restore()? {
                Told::Join(join) => request.join_namespaces.push(join),
                Told::Inherit(inherit, namespace) => {
                    request.inherit_fds.push(inherit);
                    inherited.push(namespace);
                }
            }
        }
        Ok(inherited)
    }
}

impl Restorer<'_> {
    /// criu's number.
    pub fn pid(&self) -> Pid {
        self.session.pid()
    }

    /// A descriptor of criu, to tell who reaps it.
    ///
    /// # Errors
    /// There are too many.
    pub fn process(&self) -> Result<OwnedFd> {
        self.session.process()
    }

    /// Has it restore, in the cgroups that it is in by now.
    ///
    /// # Errors
    /// What criu, `notified` or `interrupt` says; nothing of the processes is left then.
    pub fn carry_out(
        mut self,
        notified: &mut dyn FnMut(Notification) -> Result<()>,
        interrupt: Interrupt<'_>,
    ) -> Result<()> {
        self.request.cgroup_roots = cgroup_roots(self.pid())?;
        let log = self.options.log(LOG);
        self.session.carry_out(kind::RESTORE, self.request, &log, notified, interrupt)
    }
}

/// Where a process is in each hierarchy, by controller (cgroups(7), /proc/PID/cgroup).
fn cgroup_roots(pid: Pid) -> Result<Vec<CgroupRoot>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io("read", &path, &error))?;
    let mut roots = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        roots.extend(controllers.split(',').map(|controller| CgroupRoot {
            controller: Some(controller.into()),
            path: path.into(),
        }));
    }
    Ok(roots)
}
