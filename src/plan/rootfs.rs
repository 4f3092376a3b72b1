//! The rootfs: how it is made a mount, what its mounts have to do with the host's, how it is entered.

use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use super::host_mounts::Tree;
use super::options::Options;
use super::step::{Namespace, Step};
use super::{Compiler, c_path};
use crate::error::{Error, Result};
use crate::sys::mount::{MountAttr, attr};

/// With an `r` before it, of the mounts below too.
pub(super) const PROPAGATIONS: [(&str, u64); 4] = [
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("private", libc::MS_PRIVATE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// The flag and the reach of a propagation word (config.md#mounts, mount_namespaces(7)).
pub(super) fn propagation(word: &str) -> Option<(u64, bool)> {
    let name = word.strip_prefix('r').unwrap_or(word);
    let (_, flag) = PROPAGATIONS.iter().find(|(known, _)| *known == name)?;
    Some((*flag, word != name))
}

const AT: &str = "$.linux.rootfsPropagation";

impl Compiler<'_> {
    /// What `linux.rootfsPropagation` says of the container's `/`.
    pub(super) fn sort_propagation(&mut self, spec: &Spec) -> Result<()> {
        let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
        let Some(word) = word.filter(|word| !word.is_empty()) else { return Ok(()) };
        let Some(found) = propagation(word) else {
            let section = "config-linux.md#rootfs-mount-propagation";
            return Err(Error::spec(AT, Some(format!("{word:?}")), section, "no propagation"));
        };
        self.root_propagation = Some(found);
        Ok(())
    }

    /// Whether this namespace's copies of the host's mounts stay their peers, so that what is bound
    /// from there may be a peer too.
    fn keeps_peers(&self) -> bool {
        self.root_propagation.is_some_and(|(flag, _)| flag == libc::MS_SHARED)
    }

    /// The flag for what is bound from the host and must not be its peer, where it could be.
    pub(super) fn apart(&self) -> u64 {
        if self.keeps_peers() { libc::MS_SLAVE } else { 0 }
    }

    /// Steps that make the rootfs a mount of its own, before anything goes into it.
    pub(super) fn attach_rootfs(&mut self, spec: &Spec, rootfs: &Path) -> Result<()> {
        let path = c_path(rootfs, || "$.root.path".to_owned())?;
        self.mapped_sources(spec)?;
        if self.tree == Tree::OnHost {
            return self.mount_rootfs(path);
        }
        if self.keeps_peers() {
            // Before the mount around the rootfs is told apart: a volume may come from there.
            self.open_sources(spec, |_| true)?;
            self.push(Step::DetachMountOf { path: path.clone() }, AT);
        } else {
            if self.root_propagation.is_some_and(|(_, recursive)| !recursive) {
                // The word is about the root alone, so a volume that is to be a peer still can be.
                self.open_sources(spec, Options::is_shared)?;
            }
            let all_private = self.root_propagation == Some((libc::MS_PRIVATE, true));
            let asked_by = if all_private { AT } else { "" };
            let flag = if all_private { libc::MS_PRIVATE } else { libc::MS_SLAVE };
            self.push(Step::DetachPropagation(flag), asked_by);
            // A stranger to the host's folders takes what is to be bound in hand before it is one.
            if self.has(Namespace::User) {
                self.open_sources(spec, |_| true)?;
            }
        }
        self.push(Step::AttachRootfs { path }, "$.root.path");
        Ok(())
    }

    fn open_sources(&mut self, spec: &Spec, wanted: fn(&Options) -> bool) -> Result<()> {
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let json_path = format!("$.mounts[{index}]");
            let given = mount.options().as_deref().unwrap_or_default();
            let options = Options::parse(given, &json_path)?;
            if self.sources.contains(&json_path) || !wanted(&options) {
                continue;
            }
            if let Some((path, with_submounts)) = self.source(mount, &options, &json_path)? {
                self.push(Step::OpenSource { path, with_submounts }, json_path.clone());
                self.sources.push(json_path);
            }
        }
        Ok(())
    }

    /// What a bind mount shows, and whether with the mounts below it; none for other mounts.
    pub(super) fn source(
        &self,
        mount: &Mount,
        options: &Options,
        json_path: &str,
    ) -> Result<Option<(CString, bool)>> {
        let bind = options.bind.is_some() || mount.typ().as_deref() == Some("bind");
        let (Some(source), true, false) = (mount.source(), bind, options.remount) else {
            return Ok(None);
        };
        let path = self.situation.bundle.join(source);
        let path = c_path(&path, || format!("{json_path}.source"))?;
        Ok(Some((path, options.bind.unwrap_or(true))))
    }

    /// Into the rootfs, and its own attributes.
    pub(super) fn enter_rootfs(&mut self, spec: &Spec) -> Result<()> {
        match (self.tree, self.situation.pivot) {
            (Tree::Apart, true) => self.push(Step::Pivot, "$.root.path"),
            (Tree::Apart, false) if self.keeps_peers() => {
                let section = "config-linux.md#rootfs-mount-propagation";
                let message = "without pivot_root the rootfs would be moved onto the host's / too";
                return Err(Error::spec(AT, Some("\"shared\"".to_owned()), section, message));
            }
            (Tree::Apart, false) => self.push(Step::MoveRoot, "$.root.path"),
            (Tree::OnHost, _) => self.push(Step::Chroot, "$.root.path"),
            (Tree::Bare, _) => {
                self.push(Step::Chroot, "$.root.path");
                return Ok(());
            }
        }
        let read_only = spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly);
        if read_only == Some(true) {
            let attributes = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
            self.push(Step::RootAttributes { attributes, recursive: false }, "$.root.readonly");
        }
        if let Some((propagation, recursive)) = self.root_propagation {
            // Not before: pivot_root(2) refuses a shared root, and an unbindable one has no parts to
            // be made read-only. That of the mounts below has been cut off where that is asked for,
            // and what their options say is not to be undone.
            let receives = matches!(propagation, libc::MS_SLAVE | libc::MS_PRIVATE);
            let attributes = MountAttr { propagation, ..MountAttr::default() };
            let recursive = recursive && !receives;
            self.push(Step::RootAttributes { attributes, recursive }, AT);
        }
        Ok(())
    }
}
