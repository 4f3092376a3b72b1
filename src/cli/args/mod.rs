//! What may be said on the command line; meaning is given to it elsewhere.
//!
//! Nothing but definitions, for the manual pages and the shells' completions are made of them too.

mod command;
mod criu;
mod process;
mod update;
mod verbs;

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{ArgMatches, CommandFactory, Error, FromArgMatches, Parser, ValueEnum};

pub(crate) use self::command::Command;
pub(crate) use self::criu::{Checkpoint, Criu, Restore};
pub(crate) use self::process::{Common, Create, Exec, Run};
pub(crate) use self::update::Update;
pub(crate) use self::verbs::{
    Bundle, Container, Delete, Events, Help, Kill, List, Nothing, Ps, WriteSpec,
};

/// The definition of the program with all its commands.
pub(crate) fn definition() -> clap::Command {
    Arguments::command().subcommands(Command::definitions())
}

/// An OCI container runtime.
#[derive(Debug, Parser)]
#[command(name = "rscontainer", disable_version_flag = true)]
#[command(disable_help_subcommand = true, args_override_self = true)]
pub(crate) struct Arguments {
    /// Folder of the containers' state [default: /run/rscontainer, for ordinary users
    /// $XDG_RUNTIME_DIR/rscontainer]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: Option<PathBuf>,
    /// File to append errors, warnings and what --debug says to
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Form of the log, and without --log of what is said on standard error
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Say what is done, each step of it, in the log or on standard error
    #[arg(long)]
    pub(crate) debug: bool,
    /// Have systemd make the cgroups; a path in the config must have the form slice:prefix:name
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// Accepted for compatibility: which cgroups may be left alone is always seen from the host
    #[arg(long, value_enum, value_name = "WHETHER", default_value_t = Rootless::Auto)]
    pub(crate) rootless: Rootless,
    /// Print the version
    #[arg(long, short)]
    pub(crate) version: bool,
    /// Accepted for compatibility: criu is looked for along PATH
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub(crate) criu: Option<PathBuf>,
    /// Defined apart, when it is asked for
    #[arg(skip)]
    pub(crate) command: Option<Command>,
}

impl Arguments {
    /// What was said: the flags before the command, and the command.
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Error> {
        let flags = Arguments::from_arg_matches(matches)?;
        Ok(Arguments { command: Command::of(matches)?, ..flags })
    }
}

/// As Go's strconv.ParseBool has them, and "auto".
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rootless {
    Auto,
    True,
    False,
}

impl ValueEnum for Rootless {
    fn value_variants<'a>() -> &'a [Self] {
        &[Rootless::Auto, Rootless::True, Rootless::False]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Rootless::Auto => PossibleValue::new("auto").aliases(["Auto", "AUTO"]),
            Rootless::True => PossibleValue::new("true").aliases(["1", "t", "T", "TRUE", "True"]),
            Rootless::False => {
                PossibleValue::new("false").aliases(["0", "f", "F", "FALSE", "False"])
            }
        })
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ListFormat {
    Table,
    Json,
}
