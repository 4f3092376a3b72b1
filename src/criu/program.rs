//! Where criu(8) is.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// The program, and the environment that it runs in: it starts others, such as iptables-restore(8),
/// along the caller's PATH.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    pub(super) path: PathBuf,
    pub(super) env: Vec<String>,
}

/// Where it is looked for by who has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Program {
    /// Looks for it along this process's PATH.
    ///
    /// # Errors
    /// It is not there.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let runs = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
        let found = std::env::split_paths(&path).map(|folder| folder.join("criu")).find(runs);
        let Some(path) = found else {
            let message = "criu(8) is not installed: it is nowhere along PATH";
            return Err(Error::new(Kind::Other, message).hint("install the package criu"));
        };
        // Relative to this process's folder, which is not that of who starts it.
        let path =
            std::path::absolute(&path).map_err(|error| Error::io("getcwd", &path, &error))?;
        let text = |text: std::ffi::OsString| text.into_string().ok();
        let variable = |(name, value)| Some(format!("{}={}", text(name)?, text(value)?));
        Ok(Program { path, env: std::env::vars_os().filter_map(variable).collect() })
    }
}

/// A path as criu's messages have it.
pub(super) fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_owned()
}
