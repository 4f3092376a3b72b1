//! The forms in which the kernel writes figures.

use super::{IoEntry, Pressure, Share, UNLIMITED};

/// A number on a line, or `max`.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(UNLIMITED),
        text => text.parse().ok(),
    }
}

/// Lines of a name and a number.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, number(value)?))
    })
}

/// The number of a name.
pub(super) fn pair(text: &str, name: &str) -> Option<u64> {
    pairs(text).find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`, which processors lack
/// on older kernels.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let share = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let field = |name: &str| {
            let field = line.split(' ').find_map(|field| field.strip_prefix(name));
            field.and_then(|field| field.strip_prefix('='))
        };
        let average = |name: &str| field(name)?.parse().ok();
        Some(Share {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total: field("total")?.parse::<u64>().ok()? * 1000,
        })
    };
    Some(Pressure { some: share("some")?, full: share("full").unwrap_or_default() })
}

fn device(numbers: &str) -> Option<(u64, u64)> {
    let (major, minor) = numbers.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Version 1's `8:0 Read 4096`, without the sum of all devices.
pub(super) fn io_lines(text: &str) -> Vec<IoEntry> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = device(words.next()?)?;
        let (op, value) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        Some(IoEntry { major, minor, op, value })
    };
    text.lines().filter_map(entry).collect()
}

/// Version 2's `8:0 rbytes=4096 wbytes=0 …`, those of its figures that have these names.
pub(super) fn io_fields(text: &str, names: &[(&str, &str)]) -> Vec<IoEntry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let op = names.iter().find(|(own, _)| *own == name).map(|(_, op)| (*op).to_owned());
            if let (Some(op), Ok(value)) = (op, value.parse()) {
                entries.push(IoEntry { major, minor, op, value });
            }
        }
    }
    entries
}
