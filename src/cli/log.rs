//! What is said to whoever called: people read standard error, engines the log.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use super::args::LogFormat;
use crate::container;
use crate::error::{Error, Result};

/// Lines, each with a time and a level.
#[derive(Debug)]
struct Log {
    /// Standard error where there is none.
    file: Option<File>,
    format: LogFormat,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// What was warned of, held back from a log in JSON until it is known how the command ends. Podman
/// shows the error of one that failed only if the log is that error and nothing else.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Has everything that is said written to `path`. What a program of the container's writes goes to
/// the standard error that is this process's too, so warnings and --debug then go to the log alone.
///
/// A format without a file is asked for by who reads standard error with a program. Without either,
/// people do.
pub(super) fn open(path: Option<&Path>, format: Option<LogFormat>) -> Result<()> {
    if path.is_none() && format.is_none() {
        return Ok(());
    }
    let open = |path: &Path| {
        let mut options = File::options();
        options.append(true).create(true).mode(0o644);
        options
            .open(path)
            .map_err(|error| Error::io("open", path, &error).hint("name another file with --log"))
    };
    let file = path.map(open).transpose()?;
    // There is one command line, so it is not open yet.
    let _ = LOG.set(Log { file, format: format.unwrap_or(LogFormat::Text) });
    crate::hear_warnings(warn);
    Ok(())
}

fn warn(message: &str) {
    match (LOG.get(), WARNINGS.lock()) {
        (Some(Log { file: Some(_), format: LogFormat::Json }), Ok(mut held)) => {
            held.push(message.to_owned());
        }
        _ => write("warning", message),
    }
}

/// Puts down what was held back: the command did not fail.
pub(super) fn close() {
    let held = WARNINGS.lock().map(|mut held| std::mem::take(&mut *held));
    held.unwrap_or_default().iter().for_each(|message| write("warning", message));
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

/// Puts down what people have been told already.
pub(super) fn note(message: &str) {
    write("error", message);
}

/// Says why the command failed.
pub(super) fn error(message: &str) {
    if LOG.get().is_none_or(|log| log.file.is_some()) {
        eprintln!("rscontainer: error: {message}");
    }
    write("error", message);
}

fn write(level: &str, message: &str) {
    if let Some(log) = LOG.get()
        && let Err(error) = log.append(level, message)
    {
        eprintln!("rscontainer: error: write the log: {error}");
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
        match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        }
    }
}
