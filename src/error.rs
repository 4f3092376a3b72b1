//! The one error of the project: opaque, with a [`Kind`] to match on.
//!
//! It crosses the launcher's socket and the Python boundary unchanged, so it
//! carries plain data. Rendered, it names what was attempted, on what, which
//! line of the config asked for it, the errno in words, and what would help.

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// What stands in the way where one more process or thread is `EAGAIN`.
pub(crate) const PROCESS_LIMIT: &str = "a limit on processes is reached (RLIMIT_NPROC or pids.max)";

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller can do something about; one Python exception each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The config asks for something that the specification does not allow.
    Spec,
    /// No container, bundle or process of that name.
    NotFound,
    /// The container's id is taken.
    AlreadyExists,
    /// The container is not in the status that the verb needs.
    State,
    /// The kernel refused; [`Call`] says which call, on what, and why.
    SystemCall,
    /// Everything else: a hook that failed, a launcher that died.
    Other,
}

/// The system call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its name, as in section 2 of the manual.
    pub name: String,
    /// What it acted on, if that has a path.
    pub path: Option<String>,
    /// The error number.
    pub errno: i32,
    /// The step of the plan that made the call, as the plan prints it.
    pub step: Option<String>,
}

/// The property of `config.json` at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// Its JSON path, `$.process.cwd`.
    pub path: String,
    /// Its value as JSON, shortened when long; none where it is missing.
    pub value: Option<String>,
    /// The section of the specification that says so.
    pub section: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Report {
    kind: Kind,
    message: String,
    call: Option<Call>,
    property: Option<Property>,
    hint: Option<String>,
}

/// An error with its kind, its cause, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error(Box<Report>);

impl Error {
    /// An error of a kind, with a message in lower case and without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Report {
            kind,
            message: message.into(),
            call: None,
            property: None,
            hint: None,
        }))
    }

    /// A property of the config that the specification does not allow.
    pub fn spec(
        path: impl Into<String>,
        value: Option<String>,
        section: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let mut error = Error::new(Kind::Spec, message);
        error.0.property = Some(Property {
            path: path.into(),
            value: value.map(|value| shortened(&value)),
            section: Some(section.into()),
        });
        error
    }

    /// A system call that failed, with its arguments as strace would print them.
    pub fn call(name: &str, arguments: impl fmt::Display, errno: Errno) -> Self {
        Self::call_on(name, None, arguments, errno)
    }

    /// A system call that failed on a path.
    pub fn path_call(name: &str, path: impl AsRef<std::path::Path>, errno: Errno) -> Self {
        let path = path.as_ref().display().to_string();
        Self::call_on(name, Some(path.clone()), format_args!("{path:?}"), errno)
    }

    fn call_on(
        name: &str,
        path: Option<String>,
        arguments: impl fmt::Display,
        errno: Errno,
    ) -> Self {
        let mut error = Error::new(Kind::SystemCall, format!("{name} {arguments}"));
        error.0.call = Some(Call { name: name.to_owned(), path, errno: errno as i32, step: None });
        error
    }

    /// A step of the plan that failed in the child, as the plan prints it.
    pub fn step(
        step: &str,
        call: &str,
        path: Option<String>,
        errno: Errno,
        detail: Option<String>,
    ) -> Self {
        let message = match detail {
            Some(detail) => format!("{step}: {detail}"),
            None => step.to_owned(),
        };
        let mut error = Error::new(Kind::SystemCall, message);
        let (name, step) = (call.to_owned(), Some(step.to_owned()));
        error.0.call = Some(Call { name, path, errno: errno as i32, step });
        error
    }

    /// A failed input or output on a path, as the standard library reports it.
    pub fn io(name: &str, path: impl AsRef<std::path::Path>, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::path_call(name, path, Errno::from_raw(errno)),
            None => {
                Error::new(Kind::Other, format!("{name} {:?}: {error}", path.as_ref().display()))
            }
        }
    }

    /// Says what was being attempted, in front of what is there.
    pub fn context(mut self, attempt: impl fmt::Display) -> Self {
        self.0.message = format!("{attempt}: {}", self.0.message);
        self
    }

    /// Says which config it is about.
    pub fn in_file(mut self, path: &std::path::Path) -> Self {
        if self.0.kind == Kind::Spec {
            self.0.message = format!("{} (in {})", self.0.message, path.display());
        }
        self
    }

    /// Says what would help; the first hint, nearest to the cause, stays.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Names the line of the config that asked for what failed.
    pub fn asked_by(mut self, path: impl Into<String>) -> Self {
        self.0.property.get_or_insert_with(|| Property {
            path: path.into(),
            value: None,
            section: None,
        });
        self
    }

    /// Files the error under another kind.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The kind to match on.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The system call, where one failed.
    pub fn system_call(&self) -> Option<&Call> {
        self.0.call.as_ref()
    }

    /// The error number, where a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        self.system_call().map(|call| Errno::from_raw(call.errno))
    }

    /// The property of the config, where one asked for it.
    pub fn property(&self) -> Option<&Property> {
        self.0.property.as_ref()
    }
}

/// A value in an error is there to be recognised, not to fill the screen, nor to steer the terminal:
/// JSON leaves DEL and the control characters past it as they are.
pub(crate) fn shortened(value: &str) -> String {
    const SHOWN: usize = 120;
    let cut = value.char_indices().nth(SHOWN).map(|(cut, _)| cut);
    let mut shown = String::new();
    for character in value[..cut.unwrap_or(value.len())].chars() {
        if character.is_control() {
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    if cut.is_some() {
        shown.push_str(&format!("… ({} bytes)", value.len()));
    }
    shown
}

/// `EPERM: operation not permitted`.
///
/// Go writes these words small, and engines, which are written in Go, look for them in what a runtime
/// says: by "no such file or directory" and "permission denied" Docker's client tells a program that
/// is not there (status 127) or may not be run (126) from other failures (125).
pub fn errno_in_words(errno: Errno) -> String {
    let words = errno.desc();
    match words.as_bytes() {
        [first, second, ..] if first.is_ascii_uppercase() && second.is_ascii_lowercase() => {
            format!("{errno:?}: {}{}", first.to_ascii_lowercase() as char, &words[1..])
        }
        // An abbreviation.
        _ => format!("{errno:?}: {words}"),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &*self.0;
        let property = report.property.as_ref();
        if let (Kind::Spec, Some(Property { path, value, .. })) = (report.kind, property) {
            write!(f, "{path}")?;
            if let Some(value) = value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&report.message)?;
        if let Some(call) = &report.call {
            write!(f, ": {}", errno_in_words(Errno::from_raw(call.errno)))?;
        }
        match (report.kind, property) {
            (Kind::Spec, Some(Property { section: Some(section), .. })) => {
                write!(f, " (see {section})")?;
            }
            (Kind::Spec, _) | (_, None) => {}
            (_, Some(property)) => write!(f, " (asked for by {})", property.path)?,
        }
        match &report.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
