//! The `rscontainer` binary: the command line, and the launcher that Python starts.
#![cfg_attr(target_env = "gnu", no_main)]

/// The program of `stage.rs`, built before this one. A plain `cargo build` has none.
#[cfg(stage)]
const STAGE: Option<&[u8]> = Some(include_bytes!(env!("RSCONTAINER_STAGE")));
#[cfg(not(stage))]
const STAGE: Option<&[u8]> = None;

rscontainer::entry!(rscontainer::cli::main(STAGE));
