//! What is wrong with a command line, and how one is written.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::CommandFactory;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::{self, Arguments};
use super::{argv, log, print};
use crate::error::{Error, Kind, Result};
use crate::spec::NEWEST_VERSION;

/// The status that runc gives a command that there is not.
const NO_SUCH_COMMAND: u8 = 3;

/// Reads the command line. What is wrong with it has been said then, in the log too, and what was
/// asked for, such as help, is printed.
pub(super) fn parse() -> std::result::Result<Arguments, u8> {
    let arguments = std::env::args_os().skip(1);
    let (mut words, mut program) = argv::rewrite(arguments, Arguments::command());
    words.insert(0, program.get_name().into());
    let parsed = read(&mut program, &words);
    // Hundreds of pieces, freed one by one, for a program that ends soon.
    std::mem::forget(program);
    // What is wrong, or asked for, is said in view of all commands.
    let parsed = parsed.or_else(|_| read(&mut args::definition(), &words));
    parsed.map_err(|mut error| {
        if !error.use_stderr() {
            // Nobody may read it to its end.
            let _ = error.print();
            return 0;
        }
        advise(&mut error);
        complain(&error, &words);
        match error.kind() {
            ErrorKind::InvalidSubcommand => NO_SUCH_COMMAND,
            _ => 1,
        }
    })
}

fn read(
    program: &mut clap::Command,
    words: &[OsString],
) -> std::result::Result<Arguments, clap::Error> {
    Arguments::of(&program.try_get_matches_from_mut(words)?)
}

/// Names the way out where clap knows none, and not the one that is none here.
fn advise(error: &mut clap::Error) {
    if error.kind() != ErrorKind::UnknownArgument {
        return;
    }
    // To pass it as a value: no command has one to pass it to.
    error.remove(ContextKind::Suggested);
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return };
    let all = Arguments::command();
    if all.get_arguments().any(|known| known.get_long() == flag.strip_prefix("--")) {
        let tip = StyledStr::from(format!("{flag} goes before the command"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
}

/// People get all that clap has to say, an engine's log the line that says what is wrong.
fn complain(error: &clap::Error, words: &[OsString]) {
    let text = error.to_string();
    // The flags of the log come first, so they are among what could be read.
    let asked = args::definition().ignore_errors(true).try_get_matches_from(words);
    let (path, format) = asked.map_or((None, None), |asked| {
        let path: Option<&PathBuf> = asked.get_one("log");
        (path.cloned(), asked.get_one("log_format").copied())
    });
    if log::open(path.as_deref(), format).is_err() || path.is_some() || format.is_none() {
        eprint!("{text}");
    }
    let gist = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    log::note(&gist.split_whitespace().collect::<Vec<_>>().join(" "));
}

/// How a command is used, or which there are.
pub(super) fn help(name: Option<&str>) -> Result<()> {
    let mut all = args::definition();
    all.build();
    let help = match name {
        None => all.render_help(),
        Some(name) => {
            let Some(command) = all.find_subcommand_mut(name) else {
                let message = format!("there is no command {name:?}");
                return Err(Error::new(Kind::Other, message).hint("`rscontainer help` lists them"));
            };
            command.render_help()
        }
    };
    print(help.to_string().trim_end());
    Ok(())
}

/// In runc's form, which engines take apart line by line.
pub(super) fn version() -> String {
    format!("rscontainer version {}\nspec: {NEWEST_VERSION}", env!("CARGO_PKG_VERSION"))
}
