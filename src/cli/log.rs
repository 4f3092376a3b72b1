//! What is said to whoever called: people read standard error, engines the log.

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::args::LogFormat;
use crate::container;
use crate::error::Error;

/// A file of lines, each with a time and a level.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    format: LogFormat,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Has errors written there too, and warnings there alone, from now on.
pub(super) fn open(path: PathBuf, format: LogFormat) {
    // There is one command line, so it is not open yet.
    let _ = LOG.set(Log { path, format });
    crate::hear_warnings(|message| write("warning", message));
}

/// Has what is being done said as well, in the log if there is one.
pub(super) fn debug() {
    crate::hear_debug(|what| {
        for line in what.to_string().lines() {
            match LOG.get() {
                Some(_) => write("debug", line),
                None => eprintln!("rscontainer: debug: {line}"),
            }
        }
    });
}

/// Says why the command failed.
pub(super) fn error(error: &Error) {
    eprintln!("rscontainer: error: {error}");
    write("error", &error.to_string());
}

fn write(level: &str, message: &str) {
    if let Some(log) = LOG.get()
        && let Err(error) = log.append(level, message)
    {
        eprintln!("rscontainer: error: write log {:?}: {error}", log.path);
    }
}

impl Log {
    fn append(&self, level: &str, message: &str) -> std::io::Result<()> {
        let time = container::now();
        let line = match self.format {
            LogFormat::Text => format!("time={time:?} level={level} msg={message:?}\n"),
            LogFormat::Json => {
                let line = serde_json::json!({"level": level, "msg": message, "time": time});
                format!("{line}\n")
            }
        };
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(line.as_bytes())
    }
}
