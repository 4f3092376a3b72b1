//! What is known of a container, on disk: it outlives whoever created it.
//!
//! `<root>/<id>/` holds `state.json`, which records, before the config, what was resolved at
//! creation so that nothing is derived anew later, `init`, a link that says who that is, until it is
//! started `start`, the socket on which its init waits, once its limits were changed `limits`, those
//! that hold, and `rootfs`, if the container has mounts and is in the host's mount namespace. The
//! folder's flock(2) is the container's lock.

mod folder;
mod notify;
mod process;
mod root;
mod tree;

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::criu::Descriptors;
use crate::error::{Error, Kind, Result};
use crate::plan::HookPrograms;
use crate::resctrl::Resctrl;
use crate::spec;

pub use folder::{Folder, START_SOCKET};
pub use notify::NOTIFY_SOCKET;
pub use process::{ProcessId, pidfd_of, status_of_zombie};
pub use root::Root;

/// The status of a container (runtime.md#state), and runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being created.
    Creating,
    /// Waiting for start.
    Created,
    /// Its program runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Its program has ended.
    Stopped,
}

impl Status {
    /// The specification's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What `state.json` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Of the config.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// Its init, on record in a file of its own; the default until there is one.
    #[serde(skip)]
    pub init: ProcessId,
    /// Whether it was created to the end, as far as is known here.
    #[serde(skip)]
    pub published: bool,
    /// The bundle's folder, absolute.
    pub bundle: PathBuf,
    /// Its rootfs, absolute: with its mounts, where they are the host's too.
    pub rootfs: PathBuf,
    /// When, as RFC 3339.
    pub created: String,
    /// The user who created it.
    pub owner: u32,
    /// Of the config.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Where it is in the host's hierarchies.
    pub cgroup: Cgroup,
    /// Where it is in resctrl, and what of that is removed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<Resctrl>,
    /// Whether its processes share a session keyring of their own.
    #[serde(default)]
    pub session_keyring: bool,
    /// What its standard streams were; none known of a terminal.
    #[serde(default, skip_serializing_if = "Descriptors::is_empty")]
    pub descriptors: Descriptors,
    /// For poststart and poststop.
    pub hooks: HookPrograms,
    /// The config that it was created from, as JSON; exec starts from its process. A document of its
    /// own, after this one: most verbs have no use for it.
    #[serde(skip)]
    pub config: Box<[u8]>,
}

/// The OCI state of a container (runtime.md#state), with what runc adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: Status,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    owner: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: &'a std::collections::BTreeMap<String, String>,
}

impl State {
    /// The state as the specification has it.
    pub fn to_oci(&self, status: Status) -> OciState<'_> {
        OciState {
            oci_version: &self.oci_version,
            id: &self.id,
            // The specification has no pid for what does not run.
            pid: if status == Status::Stopped { 0 } else { self.init.pid },
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            owner: user_name(self.owner),
            annotations: &self.annotations,
        }
    }

    /// The config that it was created from.
    ///
    /// # Errors
    /// What is on record was spoilt since.
    pub fn spec(&self) -> Result<Spec> {
        spec::parse(&self.config).map_err(|error| {
            let message = format!("read the recorded config of container {:?}: {error}", self.id);
            Error::new(Kind::Other, message).hint("delete the container with force")
        })
    }

    /// What [`to_oci`](Self::to_oci) gives as JSON, as hooks read it.
    pub fn to_oci_json(&self, status: Status) -> Vec<u8> {
        // Strings and numbers: nothing in it that JSON has no form for.
        serde_json::to_vec(&self.to_oci(status)).unwrap_or_default()
    }
}

pub(crate) fn user_name(uid: u32) -> String {
    // Root's name needs no look-up, which would read /etc/passwd or ask a name service.
    match uid {
        0 => "root".to_owned(),
        uid => uid.to_string(),
    }
}
