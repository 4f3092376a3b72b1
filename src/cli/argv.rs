//! The command line as runc reads it, put into the form that clap reads.
//!
//! runc's flags are those of Go: one dash is as good as two, a flag that is on or off may be given a
//! value, any other takes the next word whatever that begins with, and an empty value is none.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::Arg;

use super::args::Command;

/// After the container, every word is the program's, or ps(1)'s.
const TAKE_THE_REST: [&str; 2] = ["exec", "ps"];

/// What runc reads as a number or a time: empty, these are faults. It reads all others as text, and
/// takes an empty one for none.
const NEVER_EMPTY: [&str; 6] =
    ["interval", "preserve-fds", "additional-gids", "status-fd", "pids-limit", "blkio-weight"];

/// The words, without the program's name, for `program`, which gets the definition of the command
/// that they ask for.
pub(super) fn rewrite(
    words: impl IntoIterator<Item = OsString>,
    program: clap::Command,
) -> (Vec<OsString>, clap::Command) {
    let mut command: Option<clap::Command> = None;
    let mut rewritten = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some((name, value)) = flag(&word) else {
            let takes_the_rest = |it: &clap::Command| TAKE_THE_REST.contains(&it.get_name());
            let is_last = word == "--" || command.as_ref().is_some_and(takes_the_rest);
            if command.is_none() {
                command = word.to_str().and_then(Command::definition);
            }
            rewritten.push(word);
            if is_last {
                break;
            }
            continue;
        };
        let Some(known) = find(command.as_ref().unwrap_or(&program), name) else {
            // clap knows this one by itself, and the others it is to complain about.
            rewritten.push(if name == "help" { "--help".into() } else { word });
            continue;
        };
        let long = known.get_long().unwrap_or(name);
        if !known.get_action().takes_values() {
            match value.and_then(OsStr::to_str) {
                None if value.is_none() => rewritten.push(format!("--{long}").into()),
                Some("1" | "t" | "T" | "true" | "TRUE" | "True") => {
                    rewritten.push(format!("--{long}").into());
                }
                Some("0" | "f" | "F" | "false" | "FALSE" | "False") => {}
                _ => rewritten.push(word),
            }
            continue;
        }
        match value.map(OsStr::to_owned).or_else(|| words.next()) {
            Some(value) if value.is_empty() && !NEVER_EMPTY.contains(&long) => {}
            Some(value) => {
                let mut joined = OsString::from(format!("--{long}="));
                joined.push(value);
                rewritten.push(joined);
            }
            None => rewritten.push(word),
        }
    }
    rewritten.extend(words);
    (rewritten, program.subcommands(command))
}

/// The name of a flag, and the value that is joined to it.
fn flag(word: &OsStr) -> Option<(&str, Option<&OsStr>)> {
    let bytes = word.as_bytes();
    let bare = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    let end = bare.iter().position(|byte| *byte == b'=');
    let name = std::str::from_utf8(&bare[..end.unwrap_or(bare.len())]).ok()?;
    let value = end.map(|end| OsStr::from_bytes(&bare[end + 1..]));
    (!name.is_empty() && !name.starts_with('-')).then_some((name, value))
}

fn find<'a>(level: &'a clap::Command, name: &str) -> Option<&'a Arg> {
    let mut letters = name.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    level
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name) || letter.is_some() && arg.get_short() == letter)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{OsStr, rewrite};
    use crate::cli::args::Arguments;

    #[test]
    fn flags_are_read_as_gos() {
        for (written, read) in [
            ("-root /r -debug list -f json", "--root=/r --debug list --format=json"),
            ("--systemd-cgroup=false --debug=true list", "--debug list"),
            ("--debug=perhaps list", "--debug=perhaps list"),
            ("run -bundle b -d box", "run --bundle=b --detach box"),
            ("run box -b=b --keep", "run box --bundle=b --keep"),
            ("create --pid-file= -- -box", "create -- -box"),
            ("events -interval= box", "events --interval= box"),
            ("checkpoint --status-fd -1 box", "checkpoint --status-fd=-1 box"),
            ("exec -t -e A=-t box ls -t --env=x", "exec --tty --env=A=-t box ls -t --env=x"),
            ("ps box -ef", "ps box -ef"),
            ("kill list run -all", "kill list run --all"),
            ("run -help", "run --help"),
            ("run --nosuch x -b", "run --nosuch x -b"),
            ("update --cpu-quota -1 box", "update --cpu-quota=-1 box"),
        ] {
            let words = written.split(' ').map(Into::into);
            let (rewritten, _) = rewrite(words, Arguments::command());
            assert_eq!(rewritten.join(OsStr::new(" ")), read, "{written}");
        }
    }
}
