//! `linux.namespaces`: which are new, which are joined, in which order.

use std::ffi::CString;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use super::id_maps::IdMaps;
use super::step::{Namespace, Step};
use super::{Compiler, c_path, c_string};
use crate::error::{Error, Result};

/// What the clone itself makes or needs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Born {
    /// Namespaces that are new with the clone, as `CLONE_NEW…` bits.
    pub namespaces: i32,
    /// A pid namespace to join before the clone: only children are born into it.
    pub join_pid: Option<CString>,
    /// Clock offsets of a new time namespace, as `/proc/self/timens_offsets` wants them.
    pub time_offsets: Option<String>,
    /// Namespaces of the container to be entered that the parent joins first: only its children are
    /// born into a pid namespace, and an ordinary user joins that one as root of the user namespace.
    pub enter_container: i32,
    /// Id maps of a new user namespace.
    pub id_maps: Option<IdMaps>,
    /// The child's OOM score, where it is born without the privilege to lower it.
    pub oom_score_adj: Option<i32>,
    /// Processors that the parent runs on from the clone on, as bits; so does the child, until it
    /// is in its cgroup.
    pub affinity: Option<Vec<u64>>,
}

pub(super) fn kind(typ: LinuxNamespaceType) -> Namespace {
    match typ {
        LinuxNamespaceType::User => Namespace::User,
        LinuxNamespaceType::Mount => Namespace::Mount,
        LinuxNamespaceType::Pid => Namespace::Pid,
        LinuxNamespaceType::Network => Namespace::Network,
        LinuxNamespaceType::Ipc => Namespace::Ipc,
        LinuxNamespaceType::Uts => Namespace::Uts,
        LinuxNamespaceType::Cgroup => Namespace::Cgroup,
        LinuxNamespaceType::Time => Namespace::Time,
    }
}

impl Compiler<'_> {
    /// Sorts the namespaces into new and joined; a path means an existing one.
    pub(super) fn sort_namespaces(&mut self, spec: &Spec) {
        let asked = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        for (index, namespace) in asked.into_iter().flatten().enumerate() {
            let kind = kind(namespace.typ());
            match namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
                Some(path) => self.joined.push((kind, path.to_owned(), index)),
                None => self.new_namespaces |= kind.flag(),
            }
        }
        let user_last = self.may_join();
        self.joined.sort_by_key(|(kind, ..)| (user_last == (*kind == Namespace::User), *kind));
    }

    /// Whether namespaces can be joined with the privilege that this process has (setns(2)). Then
    /// a user namespace is the last, for it gives up those that other user namespaces own; an
    /// ordinary user has none before the user namespace gives it some, for what that one owns.
    fn may_join(&self) -> bool {
        use caps::Capability::{CAP_SYS_ADMIN, CAP_SYS_CHROOT};
        let needed = CAP_SYS_ADMIN.bitmask() | CAP_SYS_CHROOT.bitmask();
        !self.facts.rootless && self.facts.capabilities & needed == needed
    }

    fn joins(&self, kind: Namespace) -> bool {
        self.joined.iter().any(|(k, ..)| *k == kind)
    }

    /// Whether the container has a namespace of this kind, new or joined.
    pub(super) fn has(&self, kind: Namespace) -> bool {
        self.new_namespaces & kind.flag() != 0 || self.joins(kind)
    }

    pub(super) fn new_user_namespace(&self) -> bool {
        self.new_namespaces & libc::CLONE_NEWUSER != 0
    }

    /// Steps that give the child its namespaces, and what is left to the clone.
    pub(super) fn namespaces(&mut self, spec: &Spec) -> Result<Born> {
        self.warn_of_joined_mounts();
        // The cgroup namespace's root is the cgroup that its maker is in, so it is made later.
        let at_birth = self.new_namespaces & !libc::CLONE_NEWCGROUP & !Namespace::Time.flag();
        let new_time = self.new_namespaces & Namespace::Time.flag() != 0;
        let offsets = new_time.then(|| time_offsets(spec));
        let mut born = Born::default();
        if self.joins(Namespace::User) {
            // Whether groups can be set in there is known to who made it; a user may have had to
            // give it up.
            self.setgroups &= !self.facts.rootless;
            self.namespaces_of_joined_user(at_birth, offsets.clone(), &mut born)?;
        } else {
            born.namespaces = at_birth;
            // In a new user namespace it is the child that makes it, once it is there.
            born.time_offsets = offsets.clone().filter(|_| !self.new_user_namespace());
            self.join(Some(&mut born.join_pid))?;
        }
        if self.new_user_namespace() {
            if let Some(offsets) = offsets {
                let offsets = c_string(&offsets, || "$.linux.timeOffsets".to_owned())?;
                self.push(Step::TimeNamespace { offsets }, "$.linux.timeOffsets");
            }
            let maps = self.id_maps(spec)?;
            self.setgroups &= !maps.deny_setgroups;
            born.id_maps = Some(maps);
            self.push(Step::AwaitIdMaps, "$.linux.uidMappings");
        }
        Ok(born)
    }

    /// It is allowed, and hardly what anybody means.
    fn warn_of_joined_mounts(&mut self) {
        let joined = self.joined.iter().find(|(kind, ..)| *kind == Namespace::Mount);
        if let Some((_, _, index)) = joined {
            self.warnings.push(format!(
                "$.linux.namespaces[{index}]: whoever is in the mount namespace that is joined gets \
                 this container's mounts and its rootfs as /, and keeps them after its end"
            ));
        }
    }

    /// What is born before the join would belong to the host's user namespace, so all that is new
    /// is made after it.
    fn namespaces_of_joined_user(
        &mut self,
        at_birth: i32,
        offsets: Option<String>,
        born: &mut Born,
    ) -> Result<()> {
        let joins_pid_inside = self.joins(Namespace::Pid) && !self.may_join();
        let of_children = at_birth & libc::CLONE_NEWPID != 0 || offsets.is_some();
        if !of_children && !joins_pid_inside {
            self.join(Some(&mut born.join_pid))?;
            if at_birth != 0 {
                self.push(Step::Unshare { namespaces: at_birth }, "$.linux.namespaces");
            }
            return Ok(());
        }
        // The second clone must come from a process of the host's pid namespace, which alone knows
        // the child by the number that it has there: so that one joins the pid namespace itself.
        self.join(None)?;
        if let Some(offsets) = offsets {
            let namespaces = Namespace::Time.flag();
            self.push(Step::Unshare { namespaces }, "$.linux.namespaces");
            if !offsets.is_empty() {
                let by_user = self.facts.rootless;
                self.push(Step::TimeOffsets { offsets, by_user }, "$.linux.timeOffsets");
            }
        }
        self.push(Step::CloneAgain { namespaces: at_birth }, "$.linux.namespaces");
        Ok(())
    }

    /// Joins what has a path. The pid namespace is left to the parent where that takes it.
    fn join(&mut self, mut join_pid: Option<&mut Option<CString>>) -> Result<()> {
        let joined = std::mem::take(&mut self.joined);
        let at = |index: usize| format!("$.linux.namespaces[{index}].path");
        let mut slots = Vec::new();
        for (kind, path, index) in &joined {
            let path = c_path(path, || at(*index))?;
            if let (Namespace::Pid, Some(join_pid)) = (*kind, &mut join_pid) {
                **join_pid = Some(path);
                continue;
            }
            let slot = slots.len();
            self.push(Step::OpenNamespace { slot, kind: *kind, path }, at(*index));
            slots.push((*kind, *index));
        }
        for (slot, (kind, index)) in slots.into_iter().enumerate() {
            self.push(Step::JoinNamespace { slot, kind }, at(index));
        }
        self.joined = joined;
        Ok(())
    }

    /// The rootfs's place: absolute, or below the bundle.
    pub(super) fn rootfs(&self, spec: &Spec) -> Result<std::path::PathBuf> {
        match spec.root() {
            Some(root) => Ok(self.situation.bundle.join(root.path())),
            None => Err(Error::spec("$.root", None, "config.md#root", "a rootfs is required")),
        }
    }
}

fn time_offsets(spec: &Spec) -> String {
    let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    // A JSON object has no order; a plan that prints the same twice has one.
    let mut sorted: Vec<_> = offsets.into_iter().flatten().collect();
    sorted.sort_by_key(|(clock, _)| *clock);
    sorted
        .into_iter()
        .map(|(clock, offset)| {
            let (secs, nanosecs) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            format!("{clock} {secs} {nanosecs}\n")
        })
        .collect()
}

/// The namespaces that exec joins: those that the init does not share with the host.
pub(super) fn of_container(spec: &Spec) -> i32 {
    asked(spec).fold(0, |flags, namespace| flags | kind(namespace.typ()).flag())
}

/// The namespace of a kind that the config asks for: one of the container's own unless it has a path.
pub(crate) fn asked_for(spec: &Spec, typ: LinuxNamespaceType) -> Option<&LinuxNamespace> {
    asked(spec).find(|namespace| namespace.typ() == typ)
}

fn asked(spec: &Spec) -> impl Iterator<Item = &LinuxNamespace> {
    let linux = spec.linux().as_ref();
    linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten()
}
