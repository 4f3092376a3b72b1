//! A plan as the process reads it that clones for the command line.
#![no_main]

#[path = "../../tests/cases/mod.rs"]
mod cases;
#[path = "../../tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::order(bytes));
