//! `events`: figures, and what happens to a container, a line of JSON each.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use super::figures;
use crate::cgroup::Change;
use crate::container::{self, Awaited, Event};
use crate::error::{Error, Kind, Result};
use crate::interrupt::never;
use crate::state::{Root, Status};

/// Prints figures every `interval`, and when memory runs out, until the container ends or nobody
/// reads; or figures `once`.
pub(super) fn events(root: &Root, id: &str, interval: &str, once: bool) -> Result<()> {
    let interval = duration(interval).filter(|interval| !interval.is_zero()).ok_or_else(|| {
        Error::new(Kind::Other, format!("--interval {interval:?} is no time above zero"))
            .hint("write it as in 5s, 500ms or 1m30s")
    })?;
    let status = container::status(root, id)?;
    if status == Status::Stopped {
        let message = format!("cannot watch container {id:?}: it is stopped");
        return Err(Error::new(Kind::State, message).hint("figures are of what runs"));
    }
    if once {
        return say_figures(root, id).map(drop);
    }
    let mut events = container::events(root, id)?;
    let mut due = Instant::now() + interval;
    loop {
        let goes_on = match events.next(Some(due), &mut never)? {
            Awaited::Over | Awaited::Event(Event::Exit) => return Ok(()),
            Awaited::Nothing => {
                due = Instant::now() + interval;
                say_figures(root, id)?
            }
            // One line for each time, by the one that runc goes by.
            Awaited::Event(Event::Cgroup(Change::OomKill(_))) if events.counts_kills() => {
                say(&figures::event("oom", id, None))?
            }
            Awaited::Event(Event::Cgroup(Change::Oom(_))) if !events.counts_kills() => {
                say(&figures::event("oom", id, None))?
            }
            Awaited::Event(Event::Cgroup(_)) => true,
        };
        if !goes_on {
            return Ok(());
        }
    }
}

fn say_figures(root: &Root, id: &str) -> Result<bool> {
    match container::stats(root, id) {
        Ok(snapshot) => say(&figures::event("stats", id, Some(figures::data(&snapshot)))),
        // It was deleted just now.
        Err(error) if error.kind() == Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// False where nobody reads any more.
fn say(line: &str) -> Result<bool> {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::io("write", "standard output", &error)),
    }
}

/// `1m30s`, `500ms`, `1.5h`: numbers, each with its unit.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] =
        [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit_at);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * length;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("5s", Some(5000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("5 s", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }
}
