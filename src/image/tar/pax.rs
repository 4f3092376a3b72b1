//! The records `length key=value` with which POSIX extends a header.

use crate::error::{Error, Kind, Result};

/// Records in their order; of several with one key the last counts.
#[derive(Clone, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Reads the body of an extended header.
    pub(super) fn parse(mut body: &[u8]) -> Result<Self> {
        let damaged = || Error::new(Kind::Other, "its extended header is damaged");
        let mut records = Vec::new();
        while !super::header::until_nul(body).is_empty() {
            let space = body.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
            let length = decimal(&body[..space]).ok_or_else(damaged)? as usize;
            let record = body.get(space + 1..length).ok_or_else(damaged)?;
            let record = record.strip_suffix(b"\n").ok_or_else(damaged)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(damaged)?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            body = &body[length..];
        }
        Ok(Records(records))
    }

    /// What counts for one entry: these, and over them its own.
    pub(super) fn overlaid(&self, own: Records) -> Records {
        Records(self.0.iter().cloned().chain(own.0).collect())
    }

    /// Global records pile up over a stream; they may not fill the memory.
    pub(super) fn bounded(self, most: u64) -> Result<Records> {
        let bytes: usize = self.0.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes as u64 > most {
            return Err(Error::new(Kind::Other, "its global extended headers are over 1 MiB"));
        }
        Ok(self)
    }

    /// The value of a key; an empty value takes a global one back.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().rev().find(|(found, _)| found == key.as_bytes())?;
        (!value.is_empty()).then_some(value)
    }

    /// A number without a sign.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>> {
        self.get(key).map(|value| decimal(value).ok_or_else(|| not_a_number(key))).transpose()
    }

    /// Seconds with a fraction, perhaps from before 1970.
    pub(super) fn time(&self, key: &str) -> Result<Option<(i64, i64)>> {
        self.get(key).map(|value| seconds(value).ok_or_else(|| not_a_number(key))).transpose()
    }

    /// All records in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

fn not_a_number(key: &str) -> Error {
    Error::new(Kind::Other, format!("{key} in its extended header is not a number that fits"))
}

/// Decimal digits alone, no more than an offset in a file can be.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    (value <= i64::MAX as u64).then_some(value)
}

fn seconds(value: &[u8]) -> Option<(i64, i64)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let point = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let whole = decimal(&value[..point])? as i64;
    let mut nanoseconds = 0;
    for at in 0..9 {
        let digit = value.get(point + 1 + at).copied().unwrap_or(b'0');
        nanoseconds = nanoseconds * 10 + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    // The kernel counts the fraction upwards, before 1970 too.
    Some(match (negative, nanoseconds) {
        (false, _) => (whole, nanoseconds),
        (true, 0) => (-whole, 0),
        (true, _) => (-whole - 1, 1_000_000_000 - nanoseconds),
    })
}
