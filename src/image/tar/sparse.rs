//! Files with holes, in GNU's four ways to write their map.

use std::io::BufRead;

use super::Archive;
use super::header::{BLOCK, Header, sparse_extension};
use super::pax::{Records, decimal};
use crate::error::{Error, Kind, Result};

/// Where a file has data; the rest of its size reads as zeros.
#[derive(Debug)]
pub(super) struct Sparse {
    pub(super) size: u64,
    pub(super) extents: Vec<(u64, u64)>,
}

/// A map has no more pairs than this: 16 MiB of memory.
const MOST_EXTENTS: usize = 1 << 20;

impl<R: BufRead> Archive<R> {
    /// The map of the file whose data comes next; none where it has no holes.
    pub(super) fn sparse(&mut self, header: &Header, records: &Records) -> Result<Option<Sparse>> {
        let size = records.number("GNU.sparse.realsize")?.or(records.number("GNU.sparse.size")?);
        let (size, extents) = match size {
            _ if header.letter() == b'S' => (header.sparse_size()?, self.old_map(header)?),
            None => return Ok(None),
            Some(size) if records.get("GNU.sparse.major").is_some() => (size, self.map_in_data()?),
            Some(size) => (size, map_in_records(records)?),
        };
        let mut end = 0;
        let mut data = 0;
        for &(start, length) in &extents {
            let after = start.checked_add(length).filter(|after| *after <= size);
            end = after.filter(|_| start >= end).ok_or_else(damaged)?;
            data += length;
        }
        if data != self.unread.0 {
            return Err(damaged());
        }
        Ok(Some(Sparse { size, extents }))
    }

    fn old_map(&mut self, header: &Header) -> Result<Vec<(u64, u64)>> {
        let mut extents = header.sparse_map()?;
        let mut goes_on = header.sparse_goes_on();
        while goes_on {
            let (more, again) = sparse_extension(&self.block()?)?;
            extents.extend(more);
            goes_on = again;
            if extents.len() > MOST_EXTENTS {
                return Err(damaged());
            }
        }
        Ok(extents)
    }

    /// Version 1.0: decimal lines in front of the data, filled up to a block.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut lines = Lines { block: [0; BLOCK], at: BLOCK };
        let count = lines.next(self)? as usize;
        if count > MOST_EXTENTS {
            return Err(damaged());
        }
        (0..count).map(|_| Ok((lines.next(self)?, lines.next(self)?))).collect()
    }
}

struct Lines {
    block: [u8; BLOCK],
    at: usize,
}

impl Lines {
    fn next<R: BufRead>(&mut self, archive: &mut Archive<R>) -> Result<u64> {
        let mut line = Vec::new();
        loop {
            if self.at == BLOCK {
                archive.unread.0 =
                    archive.unread.0.checked_sub(BLOCK as u64).ok_or_else(damaged)?;
                self.block = archive.block()?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' => return decimal(&line).ok_or_else(damaged),
                _ if line.len() > 19 => return Err(damaged()),
                _ => line.push(byte),
            }
        }
    }
}

/// Versions 0.0, a record for each number, and 0.1, one record for all.
fn map_in_records(records: &Records) -> Result<Vec<(u64, u64)>> {
    let mut numbers = Vec::new();
    for (key, value) in records.iter() {
        match key {
            b"GNU.sparse.map" => numbers.extend(value.split(|byte| *byte == b',').map(decimal)),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => numbers.push(decimal(value)),
            _ => {}
        }
    }
    let numbers = numbers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
    let pairs = numbers.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(damaged());
    }
    Ok(pairs.map(|pair| (pair[0], pair[1])).collect())
}

fn damaged() -> Error {
    Error::new(Kind::Other, "the map of its holes is damaged")
}
