//! Namespaces that a container joined: they are not criu's to write, and are there when it is
//! restored.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::rpc::{InheritFd, JoinNamespace};
use super::session::{Session, version};
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::plan::step::{Namespace, Step};

/// A namespace that is named by a path.
#[derive(Debug)]
pub(super) struct Joined<'a> {
    kind: Namespace,
    path: &'a CStr,
}

/// How criu is told at a restore.
pub(super) enum Told {
    /// By a descriptor, which it has inherited.
    Inherit(InheritFd, OwnedFd),
    /// By its path.
    Join(JoinNamespace),
}

impl<'a> Joined<'a> {
    /// All of a container's.
    pub(super) fn of(plan: &'a Plan) -> Vec<Self> {
        let opened = plan.steps.iter().filter_map(|planned| match &planned.step {
            Step::OpenNamespace { kind, path, .. } => Some(Joined { kind: *kind, path }),
            _ => None,
        });
        let pid = plan.born.join_pid.as_deref().map(|path| Joined { kind: Namespace::Pid, path });
        opened.chain(pid).collect()
    }

    /// As the images name one that they leave out; others criu writes like the container's own.
    fn key(&self) -> Option<&'static str> {
        match self.kind {
            Namespace::Network => Some("extRootNetNS"),
            Namespace::Pid => Some("extRootPidNS"),
            _ => None,
        }
    }

    /// Refuses a criu that cannot leave it out.
    pub(super) fn supported(&self, session: &Session) -> Result<()> {
        match self.kind {
            Namespace::Network => session.need(version(3, 11, 0), "joined network namespaces"),
            Namespace::Pid => session.need(version(3, 15, 0), "joined pid namespaces"),
            _ => Ok(()),
        }
    }

    /// As criu is told when it writes this init.
    pub(super) fn for_dump(&self, init: i32) -> Result<Option<Vec<u8>>> {
        let (Some(key), name) = (self.key(), file_name(self.kind)) else { return Ok(None) };
        // The init's own: the path may lead to another by now.
        let path = format!("/proc/{init}/ns/{name}");
        let found = std::fs::metadata(&path).map_err(|error| Error::io("stat", &path, &error))?;
        Ok(Some(format!("{name}[{}]:{key}", found.ino()).into_bytes()))
    }

    /// As criu is told when it brings processes back.
    pub(super) fn for_restore(&self) -> Result<Told> {
        let Some(key) = self.key() else { return self.join() };
        let shown = self.path.to_string_lossy();
        let namespace = open(self.path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| {
                Error::path_call("open", shown.as_ref(), errno).asked_by("$.linux.namespaces")
            })?;
        let inherit = InheritFd { key: key.into(), fd: namespace.as_raw_fd() };
        Ok(Told::Inherit(inherit, namespace))
    }

    fn join(&self) -> Result<Told> {
        if self.kind == Namespace::Cgroup {
            let message = "criu cannot restore into a cgroup namespace that is there already";
            return Err(Error::new(Kind::Other, message)
                .asked_by("$.linux.namespaces")
                .hint("leave its path out: a new one is made"));
        }
        let file = self.path.to_bytes().to_owned();
        Ok(Told::Join(JoinNamespace { kind: file_name(self.kind).into(), file }))
    }
}

/// As in /proc/PID/ns.
fn file_name(kind: Namespace) -> &'static str {
    match kind {
        Namespace::Network => "net",
        Namespace::Mount => "mnt",
        other => other.name(),
    }
}
