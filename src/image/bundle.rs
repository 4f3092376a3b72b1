//! The bundle's folder: made beside its place under a name of its own, then put there at once.

use std::fs::{DirBuilder, rename};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::remove::remove_tree;
use crate::error::{Error, Kind, Result};

/// Begins a bundle that is to be at `place`, in a new folder `building` with an empty `rootfs`.
///
/// Only its owner may enter it: a root file system has setuid programs of other people's making,
/// which nobody on the host may run outside of a container.
pub fn prepare(building: &Path, place: &Path) -> Result<()> {
    vacant(place)?;
    let mut private = DirBuilder::new();
    private.mode(0o700);
    private.create(building).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let parent = place.parent().unwrap_or(place).display();
            Error::io("mkdir", place, &error)
                .with_kind(Kind::NotFound)
                .hint(format!("the folder {parent} has to be there"))
        }
        _ => Error::io("mkdir", building, &error),
    })?;
    let rootfs = building.join("rootfs");
    private.create(&rootfs).map_err(|error| Error::io("mkdir", &rootfs, &error))
}

/// Puts a finished bundle in its place; rename(2) takes an empty folder's place, nothing else's.
pub fn publish(building: &Path, place: &Path) -> Result<()> {
    rename(building, place).map_err(|error| match error.kind() {
        ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            taken(place)
        }
        _ => Error::io("rename", place, &error),
    })
}

/// Removes what [`prepare`] began, if it is there.
pub fn discard(building: &Path) -> Result<()> {
    remove_tree(building)
}

/// Makes sure that a bundle is there: a folder with a config.
pub fn existing(place: &Path) -> Result<()> {
    let config = place.join("config.json");
    match config.symlink_metadata() {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let message = format!("{:?} is no bundle: it has no config.json", place.display());
            let hint = "`Bundle.create` makes one, with its root file system";
            Err(Error::new(Kind::NotFound, message).hint(hint))
        }
        Err(error) => Err(Error::io("stat", &config, &error)),
    }
}

fn vacant(place: &Path) -> Result<()> {
    match place.read_dir().map(|mut names| names.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(taken(place)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(taken(place)),
        Err(error) => Err(Error::io("open", place, &error)),
    }
}

fn taken(place: &Path) -> Error {
    let message = format!("{:?} exists and is not an empty folder", place.display());
    Error::new(Kind::AlreadyExists, message)
}
