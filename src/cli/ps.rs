//! `ps`: what ps(1) says of a container's processes.

use std::process::Command;

use super::args::ListFormat;
use super::print;
use crate::container;
use crate::error::{Error, Kind, Result};
use crate::state::Root;

/// `words` are the container and options for ps(1): what is after the container is never ours.
pub(super) fn ps(root: &Root, format: ListFormat, words: &[String]) -> Result<()> {
    let Some((id, options)) = words.split_first() else { return Ok(()) };
    let pids = container::pids(root, id)?;
    if matches!(format, ListFormat::Json) {
        print(&serde_json::Value::from(pids).to_string());
        return Ok(());
    }
    let table = table(options)?;
    let mut lines = table.lines();
    let headings = lines.next().unwrap_or_default();
    let column = headings.split_whitespace().position(|name| name == "PID").ok_or_else(|| {
        Error::new(Kind::Other, format!("ps(1) shows no column PID: {headings:?}"))
            .hint("it is what tells the container's processes from others: add -o pid")
    })?;
    print(headings);
    let pid = |line: &&str| line.split_whitespace().nth(column)?.parse::<i32>().ok();
    lines.filter(|line| pid(line).is_some_and(|pid| pids.contains(&pid))).for_each(print);
    Ok(())
}

/// Of all of the host's processes: by number it shows none that has just ended, and fails for that.
fn table(options: &[String]) -> Result<String> {
    let mut ps = Command::new("ps");
    match options {
        [] => ps.arg("-ef"),
        options => ps.args(options),
    };
    let done = ps.output().map_err(|error| {
        Error::io("exec", "ps", &error).hint("install procps, or use --format json")
    })?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let message = format!("ps {} failed: {}", options.join(" "), said.trim());
        return Err(Error::new(Kind::Other, message)
            .hint("what is after the container must be options of ps(1)"));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
