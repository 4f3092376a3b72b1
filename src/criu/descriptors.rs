//! What a container's standard streams were, so that pipes can be exchanged for the new caller's.

use std::path::Path;

use nix::errno::Errno;

use super::rpc::InheritFd;
use crate::error::{Error, Kind, Result};

/// Beside the images, by the name and in the form that other runtimes know it in.
const NAME: &str = "descriptors.json";

/// What /proc shows of a container's descriptors 0, 1 and 2, as `pipe:[4711]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Descriptors(Vec<String>);

impl Descriptors {
    /// Of these descriptors of a process.
    pub fn of(process: &str, numbers: [i32; 3]) -> Self {
        let shown = |number| {
            let link = std::fs::read_link(format!("/proc/{process}/fd/{number}"));
            link.unwrap_or_default().to_string_lossy().into_owned()
        };
        Descriptors(numbers.into_iter().map(shown).collect())
    }

    /// Whether nothing is known of them.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn save(&self, images: &Path) -> Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = images.join(NAME);
        let text = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut options = std::fs::OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        opened
            .and_then(|mut file| file.write_all(&text))
            .map_err(|error| Error::io("write", &path, &error))
    }

    pub(super) fn load(images: &Path) -> Result<Self> {
        let path = images.join(NAME);
        let text = std::fs::read(&path).map_err(|error| {
            let error = Error::io("read", &path, &error);
            match error.errno() {
                Some(Errno::ENOENT) => error.hint("name the folder of a checkpoint"),
                _ => error,
            }
        })?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::new(Kind::Other, format!("read {path:?}: {error}")))
    }

    /// The pipes among them, by the number that takes their place. A container's inner pipes are
    /// criu's to restore, so only those that it was started with are exchanged.
    pub(super) fn pipes(&self) -> impl Iterator<Item = InheritFd> {
        let pipes = (0..).zip(&self.0).filter(|(_, shown)| shown.starts_with("pipe:"));
        pipes.map(|(fd, shown)| InheritFd { key: shown.clone().into_bytes(), fd })
    }
}
