//! The program that clones for the command line, which carries it and runs it from sealed memory.

use std::process::ExitCode;

fn main() -> ExitCode {
    rscontainer::launch::run_stage()
}
