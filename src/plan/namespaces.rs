//! `linux.namespaces`: which are new, which are joined, in which order.

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::id_maps::IdMaps;
use super::step::{Namespace, Step};
use super::{Compiler, c_path, c_string, unsupported};
use crate::error::{Error, Result};

/// What the clone itself makes or needs.
#[derive(Debug, Clone, Default)]
pub struct Born {
    /// Namespaces that are new with the clone, as `CLONE_NEW…` bits.
    pub namespaces: i32,
    /// A pid namespace to join before the clone: only children are born into it.
    pub join_pid: Option<std::ffi::CString>,
    /// Clock offsets of a new time namespace, as `/proc/self/timens_offsets` wants them.
    pub time_offsets: Option<String>,
    /// Namespaces of the container to be entered that the parent joins first: only its children are
    /// born into a pid namespace, and an ordinary user joins that one as root of the user namespace.
    pub enter_container: i32,
    /// Id maps of a new user namespace.
    pub id_maps: Option<IdMaps>,
    /// The child's OOM score, where it is born without the privilege to lower it.
    pub oom_score_adj: Option<i32>,
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
        // User namespaces first: the others are entered with the privileges that it gives.
        self.joined.sort_by_key(|(kind, ..)| *kind);
    }

    /// Whether the container has a namespace of this kind, new or joined.
    pub(super) fn has(&self, kind: Namespace) -> bool {
        self.new_namespaces & kind.flag() != 0 || self.joined.iter().any(|(k, ..)| *k == kind)
    }

    pub(super) fn new_user_namespace(&self) -> bool {
        self.new_namespaces & libc::CLONE_NEWUSER != 0
    }

    /// Steps that give the child its namespaces, and what is left to the clone.
    pub(super) fn namespaces(&mut self, spec: &Spec) -> Result<Born> {
        let joins_user = self.joined.iter().any(|(kind, ..)| *kind == Namespace::User);
        if joins_user && self.new_namespaces & libc::CLONE_NEWPID != 0 {
            let what = "a new pid namespace in a joined user namespace is";
            return Err(unsupported("$.linux.namespaces", "config-linux.md#namespaces", what));
        }
        // The cgroup namespace's root is the cgroup that its maker is in, so it is made later.
        let at_birth = self.new_namespaces & !libc::CLONE_NEWCGROUP & !Namespace::Time.flag();
        let mut born = Born { namespaces: at_birth, ..Born::default() };
        if joins_user {
            // What is born before the join would belong to the host's user namespace.
            born.namespaces = 0;
        }
        let time = self.new_namespaces & Namespace::Time.flag() != 0;
        if time && !self.new_user_namespace() {
            born.time_offsets = Some(time_offsets(spec));
        }
        self.join(&mut born)?;
        if joins_user && at_birth != 0 {
            self.push(Step::Unshare { namespaces: at_birth }, "$.linux.namespaces");
        }
        if self.new_user_namespace() {
            if time {
                let offsets = c_string(&time_offsets(spec), || "$.linux.timeOffsets".to_owned())?;
                self.push(Step::TimeNamespace { offsets }, "$.linux.timeOffsets");
            }
            let maps = self.id_maps(spec)?;
            self.setgroups &= !maps.deny_setgroups;
            born.id_maps = Some(maps);
            self.push(Step::AwaitIdMaps, "$.linux.uidMappings");
        }
        Ok(born)
    }

    fn join(&mut self, born: &mut Born) -> Result<()> {
        let joined = std::mem::take(&mut self.joined);
        let at = |index: usize| format!("$.linux.namespaces[{index}].path");
        let mut slots = Vec::new();
        for (kind, path, index) in &joined {
            let path = c_path(path, || at(*index))?;
            if *kind == Namespace::Pid {
                born.join_pid = Some(path);
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
    let asked = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    asked.into_iter().flatten().fold(0, |flags, namespace| flags | kind(namespace.typ()).flag())
}
