//! Mounts of a container that is in the host's mount namespace.
//!
//! They are the host's mounts too, so all of them go where nothing of the
//! host is covered: the rootfs is mounted in the container's own state folder,
//! and they into it. The container enters by chroot(2), for pivot_root(2)
//! would move the host; delete takes down what is mounted on that one folder.

use std::ffi::CString;

use caps::Capability;
use oci_spec::runtime::{Capability as Named, Process, Root, Spec};

use super::options::Options;
use super::step::{Namespace, Step};
use super::{Compiler, c_path};
use crate::error::{Error, Result};

/// Where the container's tree is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    /// On the rootfs itself, in a mount namespace that is not the host's.
    Apart,
    /// In the state folder, in the host's mount namespace.
    OnHost,
    /// Nowhere: no mount is asked for, and the rootfs is entered as it is.
    Bare,
}

const SECTION: &str = "config-linux.md#namespaces";

impl Compiler<'_> {
    pub(super) fn sort_tree(&mut self, spec: &Spec) {
        self.tree = match asks_for_mounts(spec) {
            _ if self.has(Namespace::Mount) => Tree::Apart,
            Some(_) => Tree::OnHost,
            None => Tree::Bare,
        };
    }

    /// Refuses what cannot be mounted on the host, or not be taken away again without a trace.
    pub(super) fn check_host_mounts(&self, spec: &Spec) -> Result<()> {
        let (Tree::OnHost, Some(asked_by)) = (self.tree, asks_for_mounts(spec)) else {
            return Ok(());
        };
        let refused = |why: &str| {
            let kinds: Vec<&str> = Namespace::ALL
                .into_iter()
                .filter(|kind| self.has(*kind))
                .map(Namespace::name)
                .collect();
            let message = format!("{asked_by} needs a mount namespace: {why}");
            let at = "$.linux.namespaces";
            Err(Error::spec(at, Some(format!("{kinds:?}")), SECTION, message).hint(ADD_ONE))
        };
        if self.has(Namespace::User) {
            return refused("in a user namespace nothing can be mounted in the host's");
        }
        if !self.facts.can(Capability::CAP_SYS_ADMIN) {
            return refused("in the host's, only who has CAP_SYS_ADMIN can mount");
        }
        if let Some(word) = shared_root(spec) {
            let section = "config-linux.md#rootfs-mount-propagation";
            let at = "$.linux.rootfsPropagation";
            return Err(Error::spec(at, Some(format!("{word:?}")), section, PEER).hint(ADD_ONE));
        }
        self.check_no_peers(spec)
    }

    /// Taking down a peer of a mount of the host's would take down what is mounted below that one.
    fn check_no_peers(&self, spec: &Spec) -> Result<()> {
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let given = mount.options().as_deref().unwrap_or_default();
            let json_path = format!("$.mounts[{index}]");
            if !Options::parse(given, &json_path)?.is_shared() {
                continue;
            }
            let shared = |word: &String| word == "shared" || word == "rshared";
            let at = given.iter().rposition(shared).unwrap_or_default();
            let value = given.get(at).map(|word| format!("{word:?}"));
            let at = format!("{json_path}.options[{at}]");
            return Err(Error::spec(at, value, "config.md#mounts", PEER).hint(ADD_ONE));
        }
        Ok(())
    }

    pub(super) fn mount_rootfs(&mut self, path: CString) -> Result<()> {
        let private = self.root_propagation == Some((libc::MS_PRIVATE, true));
        let propagation = if private { libc::MS_PRIVATE } else { libc::MS_SLAVE };
        let at = c_path(&self.situation.tree, || "$.root.path".to_owned())?;
        self.push(Step::MountRootfs { path, at, propagation }, "$.root.path");
        Ok(())
    }

    /// Who may change its root can step over the one it has, where the host's tree is around it
    /// (chroot(2)).
    pub(super) fn warn_of_chroot(&mut self, process: &Process) {
        if self.tree == Tree::Apart {
            return;
        }
        let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
        if bounding.is_some_and(|bounding| bounding.contains(&Named::SysChroot)) {
            self.warnings.push(
                "$.process.capabilities.bounding: without a mount namespace, CAP_SYS_CHROOT is \
                 enough to leave the rootfs for the host's tree"
                    .to_owned(),
            );
        }
    }
}

const ADD_ONE: &str = "add {\"type\": \"mount\"} to $.linux.namespaces";

const PEER: &str = "needs a mount namespace: in the host's, deleting the container would unmount \
                    what the host has mounted there";

fn shared_root(spec: &Spec) -> Option<&str> {
    let linux = spec.linux().as_ref()?;
    let word = linux.rootfs_propagation().as_deref()?;
    matches!(word, "shared" | "rshared").then_some(word)
}

/// The first property that is about mounts, or about what would be made outside of any.
fn asks_for_mounts(spec: &Spec) -> Option<&'static str> {
    fn any<T>(list: Option<&Vec<T>>) -> bool {
        list.is_some_and(|list| !list.is_empty())
    }
    let linux = spec.linux().as_ref();
    let read_only = spec.root().as_ref().and_then(Root::readonly) == Some(true);
    let label = linux.and_then(|linux| linux.mount_label().as_deref());
    let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    let given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    let properties = [
        ("$.mounts", any(spec.mounts().as_ref())),
        ("$.linux.devices", any(linux.and_then(|linux| linux.devices().as_ref()))),
        ("$.linux.mountLabel", given(label)),
        ("$.root.readonly", read_only),
        ("$.linux.maskedPaths", any(linux.and_then(|linux| linux.masked_paths().as_ref()))),
        ("$.linux.readonlyPaths", any(linux.and_then(|linux| linux.readonly_paths().as_ref()))),
        ("$.linux.rootfsPropagation", given(propagation)),
    ];
    properties.into_iter().find(|(_, asked)| *asked).map(|(property, _)| property)
}
