//! Lists of processors and memory nodes, `0-3,7`.

/// The bits of the numbers that a list names, the lowest first; an empty list has none.
///
/// Stricter than the kernel, which takes `3-` or `,` for something.
///
/// # Errors
/// What is wrong with it, after "must".
pub fn parse_list(list: &str, most: u32) -> Result<Vec<u64>, String> {
    let mut words = Vec::new();
    if list.is_empty() {
        return Ok(words);
    }
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err("be a list of numbers and ranges, such as 0-3,7".to_owned());
        };
        if first > last {
            return Err(format!("have the lower number first in a range, unlike {part}"));
        }
        if last > most {
            return Err(format!("have no number above {most}"));
        }
        for number in first..=last {
            let word = (number / u64::BITS) as usize;
            words.resize(words.len().max(word + 1), 0);
            words[word] |= 1 << (number % u64::BITS);
        }
    }
    Ok(words)
}

/// Digits alone: `parse` would take a sign too. Too large a number is as good as the largest.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn reads_numbers_and_ranges() {
        assert_eq!(parse_list("", 9), Ok(vec![]));
        assert_eq!(parse_list("0", 9), Ok(vec![1]));
        assert_eq!(parse_list("0-3,7", 9), Ok(vec![0x8f]));
        assert_eq!(parse_list("63-64,7,007", 99), Ok(vec![1 << 63 | 1 << 7, 1]));
        for (wrong, word) in [
            (",", "list"),
            ("1,", "list"),
            ("1-", "list"),
            ("-1", "list"),
            ("+1", "list"),
            ("1 ", "list"),
            ("0x1", "list"),
            ("1-2-3", "list"),
            ("3-1", "lower"),
            ("10", "above 9"),
            ("0-99999999999999999999", "above 9"),
        ] {
            let message = parse_list(wrong, 9).expect_err(wrong);
            assert!(message.contains(word), "{wrong:?}: {message}");
        }
    }
}
