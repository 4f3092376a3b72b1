//! Cgroups that the container made inside of its own, for exec to enter.

use std::collections::HashSet;
use std::path::{Component, Path};

use super::group::{Cgroup, Directory};
use super::hierarchies::Version;
use crate::error::{Error, Kind, Result};

impl Cgroup {
    /// The cgroups below these that are asked for: as `PATH` in all hierarchies, or as
    /// `CONTROLLER[,CONTROLLER]:PATH` in those of version 1.
    ///
    /// # Errors
    /// There is no such cgroup or controller, or one is named twice.
    pub fn inside(&self, asked: &[String]) -> Result<Cgroup> {
        let mut directories: Vec<_> = self.directories.iter().map(Directory::again).collect();
        let mut named = HashSet::new();
        for words in asked {
            let below = |directory: &mut Directory, path| directory.descend(words, path);
            let Some((controllers, path)) = words.split_once(':') else {
                if asked.len() > 1 {
                    return Err(refused(words, "a path for all hierarchies leaves no other")
                        .hint("name controllers for each, as in cpu,cpuacct:PATH"));
                }
                directories.iter_mut().try_for_each(|directory| below(directory, words))?;
                break;
            };
            for controller in controllers.split(',') {
                if !named.insert(controller) {
                    return Err(refused(words, &format!("{controller:?} is named twice")));
                }
                let has = |it: &&mut Directory| it.version == Version::One && it.has(controller);
                let directory = directories.iter_mut().find(has).ok_or_else(|| {
                    let why =
                        format!("{controller:?} is no controller of a hierarchy of version 1");
                    refused(words, &why).hint("with cgroup v2, give a path alone")
                })?;
                // Controllers that share a hierarchy share the way in it.
                if directory.path == self.own(controller) {
                    below(directory, path)?;
                } else if directory.path != self.own(controller).join(relative(words, path)?) {
                    return Err(refused(words, "it shares its hierarchy with another controller"));
                }
            }
        }
        Ok(Cgroup { directories, unit: None })
    }

    fn own(&self, controller: &str) -> &Path {
        self.directory(controller).map_or(Path::new(""), Directory::path)
    }
}

impl Directory {
    fn again(&self) -> Directory {
        Directory {
            path: self.path.clone(),
            version: self.version,
            controllers: self.controllers.clone(),
            made: false,
            parents: Vec::new(),
            handle: None,
        }
    }

    fn descend(&mut self, words: &str, path: &str) -> Result<()> {
        self.path.push(relative(words, path)?);
        if self.path.is_dir() {
            return Ok(());
        }
        Err(refused(words, &format!("there is no cgroup {:?}", self.path.display()))
            .with_kind(Kind::NotFound)
            .hint("it must have been made before, in the container for instance"))
    }
}

/// Below the container's cgroup whatever it says.
fn relative<'a>(words: &str, path: &'a str) -> Result<&'a Path> {
    let path = path.trim_start_matches('/');
    let leaves = |part| !matches!(part, Component::Normal(_) | Component::CurDir);
    if Path::new(path).components().any(leaves) {
        return Err(refused(words, "the path leads out of the container's cgroup")
            .hint("give one below it, without .."));
    }
    Ok(Path::new(path))
}

fn refused(words: &str, why: &str) -> Error {
    Error::new(Kind::Other, format!("enter cgroup {words:?}: {why}"))
}
