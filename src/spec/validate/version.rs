//! `ociVersion`: SemVer, and one that is understood here.

use super::{Warnings, fault, missing};
use crate::Result;

/// The first stable version, since when configs only got more properties.
pub const OLDEST_VERSION: &str = "1.0.0";
/// The version that is followed.
pub const NEWEST_VERSION: &str = "1.3.0";

pub(super) fn validate(version: &str, warnings: &mut Warnings) -> Result<()> {
    const PATH: &str = "$.ociVersion";
    if version.is_empty() {
        return Err(missing(PATH));
    }
    let (major, minor, _) = parse(NEWEST_VERSION).unwrap_or_default();
    match parse(version) {
        None => {
            let message = format!("must be a version in SemVer format, such as {NEWEST_VERSION}");
            Err(fault(PATH, version, message))
        }
        Some((written, ..)) if written != major => {
            Err(fault(PATH, version, format!("must be a version {major} of the specification")))
        }
        Some((_, written, _)) if written > minor => {
            warnings
                .add(PATH, format!("{version} is newer than {major}.{minor}, which is followed"));
            Ok(())
        }
        Some(_) => Ok(()),
    }
}

/// Major, minor and patch of `1.0.2-rc.1+build`, if every part is as SemVer wants it.
fn parse(version: &str) -> Option<(u64, u64, u64)> {
    let (version, build) = split(version, '+');
    let (core, pre) = split(version, '-');
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let numbered = |part: &str| part.len() == 1 || !part.starts_with('0');
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !build.is_none_or(|build| build.split('.').all(word)) {
        return None;
    }
    let pre_part = |part| word(part) && (!is_number(part) || numbered(part));
    if !pre.is_none_or(|pre| pre.split('.').all(pre_part)) {
        return None;
    }
    let mut numbers = core.split('.').map(|part| {
        (is_number(part) && numbered(part)).then(|| part.parse::<u64>().ok()).flatten()
    });
    let version = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_semver_only() {
        assert_eq!(parse("1.0.0-rc5"), Some((1, 0, 0)));
        assert_eq!(parse("1.0.2-dev"), Some((1, 0, 2)));
        assert_eq!(parse("1.2.3-rc.1+build-7.001"), Some((1, 2, 3)));
        for wrong in
            ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "v1.0.0", "1.0.0 ", "1.0.+"]
        {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
