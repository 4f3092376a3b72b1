//! config.json from bytes to a plan.
#![no_main]

#[path = "../../tests/cases/mod.rs"]
mod cases;
#[path = "../../tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::config(bytes));
