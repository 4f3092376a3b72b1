//! What a plan depends on besides the config and the host.

use std::path::PathBuf;

use super::step::StartSignal;

/// What a plan depends on besides the config and the host.
#[derive(Debug, Clone)]
pub struct Situation {
    /// The container's id.
    pub id: String,
    /// The bundle's folder, absolute.
    pub bundle: PathBuf,
    /// How the program is told to start.
    pub start: StartSignal,
    /// Descriptors from 3 on that the program inherits.
    pub keep_descriptors: i32,
    /// Whether setgroups(2) is allowed in the running container that is entered.
    pub setgroups: Option<bool>,
    /// Whether the container has a session keyring of its own.
    pub session_keyring: bool,
    /// Whether what the program says on its terminal ends up where no carriage return belongs.
    pub plain_lines: bool,
    /// Whether the host's tree goes, or stays below the rootfs.
    pub pivot: bool,
    /// The folder on which the container's tree is mounted, if its mount namespace is the host's.
    pub tree: PathBuf,
}

impl Situation {
    /// A container of that name with nothing unusual asked of it.
    pub fn new(id: impl Into<String>, bundle: impl Into<PathBuf>, start: StartSignal) -> Self {
        let id = id.into();
        let tree = PathBuf::from(format!("/run/rscontainer/{id}/rootfs"));
        Situation {
            id,
            bundle: bundle.into(),
            start,
            keep_descriptors: 0,
            setgroups: None,
            session_keyring: true,
            plain_lines: false,
            pivot: true,
            tree,
        }
    }
}
