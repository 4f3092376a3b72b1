//! Amounts as people write them.

use crate::{Error, Kind, Result};

/// A number of bytes: `-1` for no limit, or a number with K, M, G, T or P, each 1024 times the one
/// before, and with or without B or iB after it. `what` is named in errors.
///
/// # Errors
///
/// It is none of these, or more than there can be.
pub fn bytes(what: &str, text: &str) -> Result<i64> {
    let plain = text.trim();
    if plain == "-1" {
        return Ok(-1);
    }
    amount(plain).ok_or_else(|| {
        Error::new(Kind::Other, format!("{what} {text:?} is no number of bytes"))
            .hint("write it as in 536870912, 512M or 1.5GiB, or -1 for no limit")
    })
}

fn amount(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = match unit.as_str() {
        "" | "b" => "",
        unit => unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit),
    };
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let factor = 1_u64 << (10 * power);
    match number.parse::<u64>() {
        Ok(number) => i64::try_from(number.checked_mul(factor)?).ok(),
        Err(_) => {
            let bytes = number.parse::<f64>().ok()? * factor as f64;
            // From 2⁶³ on it is no i64.
            (bytes < 9.223_372_036_854_775e18).then_some(bytes as i64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("4096", Some(4096)),
            ("10b", Some(10)),
            ("512M", Some(512 << 20)),
            ("512 mb", Some(512 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("8P", Some(8 << 50)),
            ("", None),
            ("-2", None),
            ("M", None),
            ("1.2.3", None),
            ("5X", None),
            ("inf", None),
            ("9000000000000P", None),
            ("16384.5P", None),
        ] {
            assert_eq!(bytes("memory", text).ok(), expected, "{text:?}");
        }
    }
}
