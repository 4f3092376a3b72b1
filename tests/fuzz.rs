//! What `fuzz/` searches for hours, in seconds and the same each time: the configs and plans of
//! `tests/plans`, and what comes of them by small random damage.
//!
//! `FUZZ_SEEDS=fuzz/corpus cargo test --test fuzz` writes them out for `fuzz/` to start from.
#![allow(clippy::unwrap_used)]

mod cases;
mod fuzzed;

use std::path::Path;

use rscontainer::plan::step::StartSignal;
use rscontainer::plan::{Plan, Situation};
use rscontainer::spec;

/// Marsaglia's, of 64 bits.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// What configs break at: the ends of number ranges, other types, what C cannot hold.
const TOKENS: [&str; 22] = [
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "-1",
    "0",
    "1e999",
    "0.5",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "-9223372036854775808",
    "9223372036854775807",
    "\"\\u0000\"",
    "\"/../..\"",
    "\"rbind\"",
    "\"user\"",
    "\"\\ud800\"",
    "[[[[[[[[",
    ",",
    ":",
];

/// Up to four wounds.
fn damaged(seed: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = at + random.below(24).min(bytes.len() - at);
        let insert: Vec<u8> = match random.below(7) {
            0 => vec![random.below(256) as u8],
            1 => bytes[at..end].repeat(2),
            2 => TOKENS[random.below(TOKENS.len())].into(),
            3 => {
                let other = &others[random.below(others.len())];
                let from = random.below(other.len());
                other[from..(from + random.below(64)).min(other.len())].to_vec()
            }
            4 => {
                // The value after a colon, so that what comes out is still JSON.
                let Some(colon) = bytes[at..].iter().position(|byte| *byte == b':') else {
                    continue;
                };
                let start = at + colon + 1;
                let rest = bytes[start..].iter().position(|byte| b",}]".contains(byte));
                let token = TOKENS[random.below(TOKENS.len())];
                bytes.splice(start..start + rest.unwrap_or(0), token.bytes());
                continue;
            }
            _ => Vec::new(),
        };
        bytes.splice(at..end, insert);
    }
    bytes
}

fn configs() -> Vec<Vec<u8>> {
    let cases = cases::files().into_iter().map(|path| cases::read(&path));
    cases.map(|case| cases::config(&case, &cases::facts(&case)).to_string().into_bytes()).collect()
}

fn plans() -> Vec<Vec<u8>> {
    let situation = Situation::new("box", "/bundle", StartSignal::Socket);
    let cases = cases::files().into_iter().map(|path| cases::read(&path));
    cases
        .filter(|case| case.refused.is_none())
        .map(|case| {
            let facts = cases::facts(&case);
            let (spec, _) =
                spec::check(cases::config(&case, &facts).to_string().as_bytes()).unwrap();
            postcard::to_allocvec(&Plan::compile(&spec, &facts, &situation).unwrap()).unwrap()
        })
        .collect()
}

fn walk(name: &str, seeds: &[Vec<u8>], rounds: usize, walked: fn(&[u8])) {
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (index, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
        }
    }
    seeds.iter().for_each(|seed| walked(seed));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for seed in seeds {
        for _ in 0..rounds {
            let bytes = damaged(seed, seeds, &mut random);
            let result = std::panic::catch_unwind(|| walked(&bytes));
            assert!(result.is_ok(), "{}", String::from_utf8_lossy(&bytes).escape_debug());
        }
    }
}

#[test]
fn damaged_configs() {
    walk("config", &configs(), 1500, fuzzed::config);
}

#[test]
fn damaged_plans() {
    walk("order", &plans(), 5000, fuzzed::order);
}
