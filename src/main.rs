//! The `rscontainer` binary: the command line, and the launcher that Python starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    rscontainer::cli::main()
}
