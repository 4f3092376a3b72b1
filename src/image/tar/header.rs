//! One block of 512 bytes that describes an entry.

use crate::error::{Error, Kind, Result};

/// Everything in an archive is a multiple of this.
pub(super) const BLOCK: usize = 512;

/// A header whose checksum was right.
pub(super) struct Header([u8; BLOCK]);

impl Header {
    /// None where the checksum says that this is no header.
    pub(super) fn new(block: [u8; BLOCK]) -> Option<Self> {
        let header = Header(block);
        let recorded = header.number(148..156, "checksum").ok()?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, byte) in header.0.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            // Old tars on machines with signed characters summed them as they were.
            signed += i64::from(byte as i8);
        }
        (recorded == unsigned || recorded == signed).then_some(header)
    }

    /// What kind of entry it is, one letter.
    pub(super) fn letter(&self) -> u8 {
        self.0[156]
    }

    /// The name, with the prefix of POSIX's format; GNU's keeps other things in that place.
    pub(super) fn path(&self) -> Vec<u8> {
        let (name, prefix) = (self.text(0..100), self.text(345..500));
        if &self.0[257..263] != b"ustar\0" || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// Where a link leads.
    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157..257).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32> {
        Ok(self.number(100..108, "mode")? as u32 & 0o7777)
    }

    pub(super) fn uid(&self) -> Result<i64> {
        self.number(108..116, "owner")
    }

    pub(super) fn gid(&self) -> Result<i64> {
        self.number(116..124, "group")
    }

    pub(super) fn size(&self) -> Result<u64> {
        unsigned(self.number(124..136, "size")?, "size")
    }

    pub(super) fn modified(&self) -> Result<i64> {
        self.number(136..148, "time")
    }

    /// Major and minor number of a device.
    pub(super) fn device(&self) -> Result<(u64, u64)> {
        Ok((
            unsigned(self.number(329..337, "device number")?, "device number")?,
            unsigned(self.number(337..345, "device number")?, "device number")?,
        ))
    }

    /// The map of GNU's old sparse format: pairs of offset and length.
    pub(super) fn sparse_map(&self) -> Result<Vec<(u64, u64)>> {
        sparse_pairs(&self.0[386..482])
    }

    /// Whether the map goes on in a block of its own.
    pub(super) fn sparse_goes_on(&self) -> bool {
        self.0[482] != 0
    }

    /// The size with the holes.
    pub(super) fn sparse_size(&self) -> Result<u64> {
        unsigned(self.number(483..495, "size")?, "size")
    }

    fn text(&self, range: std::ops::Range<usize>) -> &[u8] {
        until_nul(&self.0[range])
    }

    fn number(&self, range: std::ops::Range<usize>, what: &str) -> Result<i64> {
        number(&self.0[range], what)
    }
}

/// The rest of a sparse map: 21 pairs, and whether yet another block follows.
pub(super) fn sparse_extension(block: &[u8; BLOCK]) -> Result<(Vec<(u64, u64)>, bool)> {
    Ok((sparse_pairs(&block[..504])?, block[504] != 0))
}

fn sparse_pairs(bytes: &[u8]) -> Result<Vec<(u64, u64)>> {
    let mut pairs = Vec::new();
    for pair in bytes.chunks_exact(24).take_while(|pair| pair[0] != 0) {
        let read = |bytes| unsigned(number(bytes, "sparse map")?, "sparse map");
        pairs.push((read(&pair[..12])?, read(&pair[12..])?));
    }
    Ok(pairs)
}

/// The part of a field in front of its first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())]
}

/// Octal digits, or where they would not fit, GNU's binary with the top bit set.
fn number(bytes: &[u8], what: &str) -> Result<i64> {
    let absurd = || Error::new(Kind::Other, format!("its {what} is not a number that fits"));
    if bytes[0] & 0x80 != 0 {
        let negative = bytes[0] & 0x40 != 0;
        let first = if negative { i128::from(bytes[0] as i8) } else { i128::from(bytes[0] & 0x3f) };
        let value = bytes[1..].iter().fold(first, |value, byte| (value << 8) | i128::from(*byte));
        return i64::try_from(value).map_err(|_| absurd());
    }
    let digits = until_nul(bytes).trim_ascii();
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => {
            value.checked_mul(8).map(|value| value + i64::from(digit - b'0')).ok_or_else(absurd)
        }
        _ => Err(absurd()),
    })
}

fn unsigned(value: i64, what: &str) -> Result<u64> {
    u64::try_from(value).map_err(|_| Error::new(Kind::Other, format!("its {what} is negative")))
}
