//! Why criu failed, from its log.

use std::path::Path;

use super::rpc::Response;
use crate::error::{Error, Kind};

/// Errors of the log that are quoted: the last ones, for the first cause may be followed by a few.
const QUOTED: usize = 5;

/// The error of a request that criu refused, whose log is there.
pub(super) fn failed(response: &Response, log: &Path) -> Error {
    let mut said = errors(&std::fs::read(log).unwrap_or_default());
    let first = response.message.as_deref().map(|text| said_in(&String::from_utf8_lossy(text)));
    if let (true, Some(first)) = (said.is_empty(), first) {
        said.push(first);
    }
    if let (true, Some(errno)) = (said.is_empty(), response.errno) {
        said.push(crate::error::errno_in_words(nix::errno::Errno::from_raw(errno)));
    }
    let error = Error::new(Kind::Other, format!("criu failed: {}", said.join(", ")));
    error.hint(format!("its log is {log:?}"))
}

/// The last errors in a log, each once, the oldest first.
fn errors(log: &[u8]) -> Vec<String> {
    let log = String::from_utf8_lossy(log);
    let mut last: Vec<String> = Vec::new();
    for line in log.lines().rev().filter(|line| line.contains("Error")) {
        let said = said_in(line);
        if !last.contains(&said) && last.len() < QUOTED {
            last.push(said);
        }
    }
    last.reverse();
    last
}

/// Without the time and the place in criu's source, `(00.133) Error (criu/net.c:3282): `.
fn said_in(line: &str) -> String {
    let said = line.split_once("Error (").and_then(|(_, rest)| rest.split_once("): "));
    said.map_or(line, |(_, said)| said).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::errors;

    #[test]
    fn the_last_errors_are_quoted_once_and_in_their_order() {
        let log = "(00.1) Dumping processes\n\
                   Error (criu/util.c:641): execvp(\"tar\") failed\n\
                   (00.2) Error (criu/util.c:656): exited, status=1\n\
                   (00.3) \tUnseizing 7\n\
                   (00.4) Error (criu/util.c:656): exited, status=1\n\
                   (00.5) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        let said = ["execvp(\"tar\") failed", "exited, status=1", "Dumping FAILED."];
        assert_eq!(errors(log.as_bytes()), said);
    }
}
