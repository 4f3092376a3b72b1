//! The `rscontainer` binary: the command line, and the launcher that Python starts.

fn main() {
    println!("rscontainer {}", env!("CARGO_PKG_VERSION"));
}
