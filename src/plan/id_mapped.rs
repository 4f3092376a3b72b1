//! Id-mapped mounts: `uidMappings`, `gidMappings`, `idmap` and `ridmap` of a bind mount.
//!
//! The kernel lets only the administrator of a file system's own user
//! namespace map its ids, on a mount that is nowhere attached yet: so the
//! parent, who is the host's root, prepares the source and the child binds
//! what it is handed.

use std::ffi::CString;
use std::fmt;

use oci_spec::runtime::{Mount, Spec};

use super::display::Quoted;
use super::options::Options;
use super::step::{Namespace, Step};
use super::{Compiler, IdMaps, c_path};
use crate::error::{Error, Result};

/// A part of the host's tree whose owners are shown as others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedTree {
    /// Absolute path on the host.
    pub path: CString,
    /// With the mounts below it.
    pub with_submounts: bool,
    /// The mounts below it are mapped too.
    pub recursive: bool,
    /// What the ids become.
    pub ids: MountIds,
    /// The mount in the config.
    pub asked_by: String,
}

/// Whose view of the ids a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountIds {
    /// That of the mount's own mappings.
    Own(IdMaps),
    /// That of the container's new user namespace.
    Container,
    /// That of the user namespace that the container joins.
    Joined(CString),
}

impl fmt::Display for MappedTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open {}", Quoted(&self.path))?;
        f.write_str(if self.recursive { ", map all ids below " } else { ", map ids " })?;
        match &self.ids {
            MountIds::Own(maps) => {
                write!(f, "(uids \"{}\", gids \"{}\")", maps.uid, maps.gid)
            }
            MountIds::Container => f.write_str("as in the container's user namespace"),
            MountIds::Joined(path) => write!(f, "as in the user namespace {}", Quoted(path)),
        }
    }
}

impl Compiler<'_> {
    /// Takes from the parent's hand what is to be bound with other ids.
    pub(super) fn mapped_sources(&mut self, spec: &Spec) -> Result<()> {
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let given = mount.options().as_deref().unwrap_or_default();
            let mapped = mount.uid_mappings().is_some()
                || given.iter().any(|option| matches!(option.as_str(), "idmap" | "ridmap"));
            if !mapped {
                continue;
            }
            let json_path = format!("$.mounts[{index}]");
            let options = Options::parse(given, &json_path)?;
            let Some(ids) = self.mount_ids(mount, &options, &json_path)? else { continue };
            let Some((path, with_submounts)) = self.source(mount, &options, &json_path)? else {
                continue;
            };
            let recursive = options.id_mapped == Some(true);
            let asked_by = json_path.clone();
            self.mapped.push(MappedTree { path, with_submounts, recursive, ids, asked_by });
            self.sources.push(json_path);
        }
        if !self.mapped.is_empty() {
            self.push(Step::AwaitSources { count: self.mapped.len() }, "$.mounts");
        }
        Ok(())
    }

    fn mount_ids(
        &self,
        mount: &Mount,
        options: &Options,
        json_path: &str,
    ) -> Result<Option<MountIds>> {
        let uids = mount.uid_mappings().as_deref().unwrap_or_default();
        let gids = mount.gid_mappings().as_deref().unwrap_or_default();
        if !uids.is_empty() || !gids.is_empty() {
            return Ok(Some(MountIds::Own(IdMaps::of_mount(uids, gids))));
        }
        if options.id_mapped.is_none() {
            return Ok(None);
        }
        if self.new_user_namespace() {
            return Ok(Some(MountIds::Container));
        }
        match self.joined.iter().find(|(kind, ..)| *kind == Namespace::User) {
            Some((_, path, index)) => {
                let path = c_path(path, || format!("$.linux.namespaces[{index}].path"))?;
                Ok(Some(MountIds::Joined(path)))
            }
            None => {
                let at = format!("{json_path}.options");
                let message = "needs uidMappings and gidMappings, or a user namespace";
                Err(Error::spec(at, None, "config.md#linux-mount-options", message))
            }
        }
    }
}
