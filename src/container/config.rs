//! A bundle's config, read and validated before anything is made.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::value::RawValue;

use crate::cgroup;
use crate::error::{Error, Kind, Result};
use crate::spec;

/// The name of the config in a bundle (bundle.md).
const CONFIG: &str = "config.json";

/// A config that passed validation.
#[derive(Debug)]
pub struct Config {
    /// As it was written; kept for exec.
    pub raw: Box<RawValue>,
    /// As it is meant, with what the caller overrides.
    pub spec: Spec,
    /// What the specification wants said and not refused.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads a bundle's config.
    ///
    /// # Errors
    /// There is no such bundle, or what [`Config::parse`] refuses.
    pub fn read(bundle: &Path) -> Result<Self> {
        let path = bundle.join(CONFIG);
        let not_found = |error: &std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound if !bundle.exists() => {
                Error::new(Kind::NotFound, format!("there is no bundle {bundle:?}"))
                    .hint("name a folder with a config.json, or make one with Bundle.create()")
            }
            std::io::ErrorKind::NotFound => {
                Error::new(Kind::NotFound, format!("the bundle {bundle:?} has no {CONFIG}"))
                    .hint("write one with `rscontainer spec` or Spec.default().save()")
            }
            _ => Error::io("open", &path, error),
        };
        // A FIFO in its place would keep us waiting for whoever made it.
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .map_err(|error| not_found(&error))?;
        let kind = file.metadata().map_err(|error| Error::io("fstat", &path, &error))?;
        if !kind.is_file() {
            return Err(Error::new(Kind::Other, format!("{path:?} is not a regular file")));
        }
        // One byte more than is allowed is read, so that what is too long is seen to be.
        let mut bytes = Vec::with_capacity(kind.len().min(spec::MAX_SIZE as u64) as usize + 1);
        file.take(spec::MAX_SIZE as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read", &path, &error))?;
        Self::parse(bytes).map_err(|error| error.in_file(&path))
    }

    /// Takes a config in as JSON.
    ///
    /// # Errors
    /// It is no JSON, or breaks a rule of the specification.
    pub fn parse(json: Vec<u8>) -> Result<Self> {
        let (spec, warnings) = spec::check(&json)?;
        let raw = String::from_utf8(json)
            .ok()
            .and_then(|json| RawValue::from_string(json).ok())
            .ok_or_else(|| Error::new(Kind::Spec, "the config is not JSON in UTF-8"))?;
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Ok(Config { raw, spec, warnings })
    }

    /// Has systemd make the cgroups, in a scope of that id's if the config names none.
    ///
    /// # Errors
    /// It names something else.
    pub fn have_systemd_make_cgroups(&mut self, id: &str) -> Result<()> {
        if self.spec.linux().is_none() {
            // The type's own default is a whole config.
            self.spec.set_linux(serde_json::from_str("{}").ok());
        }
        let Some(linux) = self.spec.linux_mut() else { return Ok(()) };
        match linux.cgroups_path() {
            None => {
                linux.set_cgroups_path(Some(format!(":rscontainer:{id}").into()));
                Ok(())
            }
            Some(path) if cgroup::is_systemd_style(path) => Ok(()),
            Some(path) => {
                let value = Some(format!("{:?}", path.display()));
                let section = "config-linux.md#cgroups-path";
                let message = "systemd needs \"slice:prefix:name\"";
                Err(Error::spec("$.linux.cgroupsPath", value, section, message)
                    .hint("leave --systemd-cgroup out, or the path"))
            }
        }
    }

    /// criu gives restored processes a time namespace, whether they had one or not, so that their
    /// clocks do not jump: who enters the container is to join that one.
    pub(super) fn add_time_namespace(&mut self) {
        let Ok(mut config) = serde_json::from_str::<serde_json::Value>(self.raw.get()) else {
            return;
        };
        let namespaces = config.pointer_mut("/linux/namespaces").and_then(|all| all.as_array_mut());
        let Some(namespaces) = namespaces.filter(|_| Path::new("/proc/self/ns/time").exists())
        else {
            return;
        };
        if namespaces.iter().all(|namespace| namespace["type"] != "time") {
            namespaces.push(serde_json::json!({"type": "time"}));
        }
        if let Ok(raw) = serde_json::value::to_raw_value(&config) {
            self.raw = raw;
        }
    }

    /// Puts the caller's arguments and choice of terminal in place of the config's.
    pub fn override_process(&mut self, args: Option<&Vec<String>>, terminal: Option<bool>) {
        let Some(process) = self.spec.process_mut() else { return };
        if args.is_some() {
            process.set_args(args.cloned());
        }
        if terminal.is_some() {
            process.set_terminal(terminal);
        }
    }
}
