//! From bytes to [`Spec`].
//!
//! The way of a good config is one pass with no detour, for it lies on the way
//! from the caller to exec. Only what that pass refuses is read again, slowly:
//! first to accept what the specification allows and the types do not, then to
//! say exactly what is wrong and where.

use oci_spec::runtime::Spec;
use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::strict::Strict;
use super::{Warning, repair, section};
use crate::{Error, Result, suggest};

/// The largest config that is read, in bytes; real ones have a few thousand.
pub const MAX_SIZE: usize = 16 << 20;

const FORMAT: &str = "glossary.md#configuration";

/// Parses a config, without validating what it says.
///
/// Unknown properties are ignored, `null` counts as absent.
///
/// # Errors
///
/// [`Kind::Spec`](crate::Kind::Spec) with the JSON path, the value and the
/// section, or with line and column where the bytes are not JSON.
pub fn parse(json: &[u8]) -> Result<Spec> {
    parse_with_warnings(json).map(|(spec, _)| spec)
}

/// As [`parse`], and says what had to be left out, such as unknown capabilities.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_with_warnings(json: &[u8]) -> Result<(Spec, Vec<Warning>)> {
    let text = text(json)?;
    let mut json = serde_json::Deserializer::from_str(text);
    match Spec::deserialize(Strict(&mut json)).and_then(|spec| json.end().map(|()| spec)) {
        Ok(spec) => Ok((spec, Vec::new())),
        Err(_) => parse_slowly(text),
    }
}

fn text(json: &[u8]) -> Result<&str> {
    if json.len() > MAX_SIZE {
        let message =
            format!("the config has {} bytes, more than the {MAX_SIZE} allowed", json.len());
        return Err(malformed(message));
    }
    if json.starts_with(b"\xef\xbb\xbf") {
        return Err(malformed("the config starts with a byte order mark")
            .hint("save it as UTF-8 without one"));
    }
    if json.starts_with(b"\xff\xfe") || json.starts_with(b"\xfe\xff") {
        return Err(malformed("the config is UTF-16").hint("save it as UTF-8"));
    }
    let text = std::str::from_utf8(json).map_err(|error| {
        let before = &json[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|&&byte| byte != b'\n').count();
        malformed(format!("the config is not UTF-8 at line {line} column {column}"))
    })?;
    match text.trim_start().chars().next() {
        Some('{') => Ok(text),
        Some(_) => match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                Err(Error::spec("$", Some(value.to_string()), FORMAT, "must be an object"))
            }
            Err(error) => Err(not_json(&error)),
        },
        None => Err(malformed("the config is empty")),
    }
}

fn parse_slowly(text: &str) -> Result<(Spec, Vec<Warning>)> {
    let mut value: Value = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    if let Err(error) = parse_tracked(text) {
        // A tree keeps the last of two entries and would hide this one.
        if error.inner().to_string().starts_with("duplicate field") {
            return Err(explained(&error, &value));
        }
    }
    let mut warnings = Vec::new();
    repair::repair(&mut value, &mut warnings)?;
    // Read from text once more: a deserializer over the tree would be a second copy of the code for
    // every type of the specification.
    match parse_tracked(&value.to_string()) {
        Ok(spec) => Ok((spec, warnings)),
        Err(error) => Err(explained(&error, &value)),
    }
}

/// As the first pass, and knows where it failed.
fn parse_tracked(
    text: &str,
) -> std::result::Result<Spec, serde_path_to_error::Error<serde_json::Error>> {
    serde_path_to_error::deserialize(Strict(&mut serde_json::Deserializer::from_str(text)))
}

fn malformed(message: impl Into<String>) -> Error {
    Error::spec("$", None, FORMAT, message)
}

fn not_json(error: &serde_json::Error) -> Error {
    let message = error.to_string();
    let (what, place) = match message.rsplit_once(" at line ") {
        Some((what, place)) => (what, format!(" at line {place}")),
        None => (message.as_str(), String::new()),
    };
    if error.is_eof() {
        malformed(format!("the config is cut off{place}: {}", what.to_lowercase()))
    } else if what.starts_with("recursion limit") {
        malformed(format!("the config is nested too deeply{place}"))
    } else {
        malformed(format!("the config is not JSON{place}: {what}"))
    }
}

/// The crate's words for a mismatch, in those of the specification.
fn explained(error: &serde_path_to_error::Error<serde_json::Error>, value: &Value) -> Error {
    let message = error.inner().to_string();
    // Errors from text carry a place that the JSON path tells better.
    let message = message.split(" at line ").next().unwrap_or(&message);
    let mut path = json_path(error.path());
    if let Some(name) = quoted_after(message, "missing field ") {
        path = join(&path, name);
        return Error::spec(&path, None, section::of(&path), "the required property is missing");
    }
    if let Some(name) = quoted_after(message, "duplicate field ") {
        path = join(&path, name);
        return Error::spec(&path, None, FORMAT, "the property is there twice");
    }
    let found = at(value, error.path());
    let section = section::of(&path);
    let fault = |message: String| Error::spec(&path, found.map(Value::to_string), section, message);
    if let Some(written) = quoted_after(message, "unknown variant ") {
        let names: Vec<&str> = message
            .split_once("expected ")
            .map_or("", |(_, names)| names)
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|name| repair::FLAGS.iter().find(|(_, own)| *own == name).map_or(name, |it| it.0))
            .collect();
        let error = fault(format!("must be one of {}", names.join(", ")));
        return match suggest::nearest(written, names.iter().copied()) {
            Some(name) => error.hint(format!("did you mean {name:?}?")),
            None => error,
        };
    }
    if message.starts_with("Invalid execCPUAffinity") {
        return fault("must be a list of numbers and ranges, such as 0-3,7".to_owned());
    }
    match message.split_once(", expected ") {
        Some((_, expected)) => fault(format!("must be {}", in_json(expected))),
        None => fault(message.to_owned()),
    }
}

fn in_json(expected: &str) -> String {
    match expected {
        "a sequence" => "an array".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "path string" | "a borrowed path" | "string or map" | "variant identifier" => {
            "a string".to_owned()
        }
        "u16" => format!("an integer from 0 to {}", u16::MAX),
        "u32" => format!("an integer from 0 to {}", u32::MAX),
        "u64" | "usize" => format!("an integer from 0 to {}", u64::MAX),
        "i32" => format!("an integer from {} to {}", i32::MIN, i32::MAX),
        "i64" => format!("an integer from {} to {}", i64::MIN, i64::MAX),
        _ if expected == "a map" || expected.starts_with("struct ") => "an object".to_owned(),
        _ if expected.starts_with("enum ") => "a string".to_owned(),
        _ => expected.to_owned(),
    }
}

fn quoted_after<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    message.strip_prefix(start)?.strip_prefix('`')?.split('`').next()
}

fn json_path(path: &Path) -> String {
    let mut written = String::from("$");
    for segment in path {
        match segment {
            Segment::Seq { index } => written.push_str(&format!("[{index}]")),
            Segment::Map { key } => written = join(&written, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    written
}

/// A member's path; a name that is no identifier goes into brackets.
pub(crate) fn join(path: &str, key: &str) -> String {
    let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && !key.is_empty() { format!("{path}.{key}") } else { format!("{path}[{key:?}]") }
}

fn at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => Some(value),
    })
}
