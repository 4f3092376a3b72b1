//! The ids of a new user namespace, and who may write them down (user_namespaces(7)).

use std::fmt;

use caps::Capability;
use oci_spec::runtime::{LinuxIdMapping, Spec};
use serde::{Deserialize, Serialize};

use super::{Born, Compiler};
use crate::error::{Error, Result};

/// What the parent writes for a child in a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// User ids.
    pub uid: IdMap,
    /// Group ids.
    pub gid: IdMap,
    /// An ordinary user who writes the group map must give up setgroups(2) for it: a group may be
    /// there to take a permission away, and nobody shall leave it.
    pub deny_setgroups: bool,
    /// The files to write are those of a process of an ordinary user's.
    pub by_user: bool,
}

/// One of the two maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside, first id outside, how many.
    pub ranges: Vec<[u32; 3]>,
    /// The kernel takes it from newuidmap(1) or newgidmap(1) alone, not from this process.
    pub by_helper: bool,
}

impl IdMaps {
    /// Of a mount: written by the host's root.
    pub(super) fn of_mount(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Self {
        let map = |ids| IdMap::new(ids, 0, true);
        IdMaps { uid: map(uids), gid: map(gids), deny_setgroups: false, by_user: false }
    }
}

impl IdMap {
    /// `own` is the one id that a user may map without `privileged`.
    fn new(mappings: &[LinuxIdMapping], own: u32, privileged: bool) -> Self {
        let range = |map: &LinuxIdMapping| [map.container_id(), map.host_id(), map.size()];
        let ranges: Vec<_> = mappings.iter().map(range).collect();
        let alone = matches!(ranges[..], [[_, outside, 1]] if outside == own);
        IdMap { ranges, by_helper: !privileged && !alone }
    }

    /// Whether who is root inside is `own` outside.
    fn has_root(&self, own: u32) -> bool {
        self.ranges.iter().any(|[inside, outside, _]| (*inside, *outside) == (0, own))
    }
}

/// The text of `/proc/<pid>/uid_map`, in one line for people.
impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, [inside, outside, count]) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{inside} {outside} {count}")?;
        }
        Ok(())
    }
}

impl Compiler<'_> {
    /// Whether the child, once it is root of its user namespace, cannot be moved any more: where the
    /// host's root did not open a file of version 1's, it takes in no user but who did.
    pub(super) fn cgroup_refuses_root_of(&self, born: &Born) -> bool {
        let same_user = born.id_maps.as_ref().is_some_and(|maps| maps.uid.has_root(self.facts.uid));
        self.facts.rootless && !same_user && !self.cgroup.is_unified()
    }

    pub(super) fn id_maps(&self, spec: &Spec) -> Result<IdMaps> {
        let linux = spec.linux().as_ref();
        let uid = linux.and_then(|linux| linux.uid_mappings().as_ref());
        let gid = linux.and_then(|linux| linux.gid_mappings().as_ref());
        let (Some(uid), Some(gid)) = (uid, gid) else {
            let at = if uid.is_none() { "$.linux.uidMappings" } else { "$.linux.gidMappings" };
            let message = "a new user namespace needs mappings: without, every id in it is nobody";
            let section = "config-linux.md#user-namespace-mappings";
            return Err(Error::spec(at, None, section, message));
        };
        let facts = self.facts;
        let any_group = facts.can(Capability::CAP_SETGID);
        let uid = IdMap::new(uid, facts.uid, facts.can(Capability::CAP_SETUID));
        let gid = IdMap::new(gid, facts.gid, any_group);
        let deny_setgroups = !any_group && !gid.by_helper;
        Ok(IdMaps { uid, gid, deny_setgroups, by_user: facts.rootless })
    }
}
