//! What may be said on the command line; meaning is given to it elsewhere.
//!
//! Nothing but definitions, for the manual pages and the shells' completions are made of them too.

mod criu;
mod deferred;
mod process;
mod update;

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use self::criu::{Checkpoint, Criu, Restore};
pub(crate) use self::deferred::Deferred;
pub(crate) use self::process::{Common, Create, Exec, Run};
pub(crate) use self::update::Update;

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
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container, to be started later
    Create(Deferred<Create>),
    /// Create a container and run its program
    Run(Deferred<Run>),
    /// Run a further program in a container
    Exec(Deferred<Exec>),
    /// Run the program of a created container
    Start {
        /// The container
        #[arg(value_name = "CONTAINER")]
        id: String,
    },
    /// Print a container's state as JSON
    State {
        /// The container
        #[arg(value_name = "CONTAINER")]
        id: String,
    },
    /// Send a signal to a container's init
    Kill {
        /// Send it to all processes of the container
        #[arg(long, short)]
        all: bool,
        /// The container
        #[arg(value_name = "CONTAINER")]
        id: String,
        /// Name or number of the signal
        #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
        signal: String,
    },
    /// Take away all that was made for a container
    Delete {
        /// Kill it first if it runs; no error if there is none
        #[arg(long, short)]
        force: bool,
        /// The container
        #[arg(value_name = "CONTAINER")]
        id: String,
    },
    /// Freeze all processes of a container
    Pause {
        /// The container
        #[arg(value_name = "CONTAINER")]
        id: String,
    },
    /// Let them run on
    Resume {
        /// The container
        #[arg(value_name = "CONTAINER")]
        id: String,
    },
    /// Write a container's processes to disk
    Checkpoint(Deferred<Checkpoint>),
    /// Create a container of processes that were written to disk
    Restore(Deferred<Restore>),
    /// List containers
    List {
        /// As a table or as JSON
        #[arg(long, short, value_enum, default_value_t = ListFormat::Table)]
        format: ListFormat,
        /// Ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show the processes of a container
    Ps {
        /// As ps(1) shows them, or their numbers as JSON
        #[arg(long, short, value_enum, default_value_t = ListFormat::Table)]
        format: ListFormat,
        /// The container, and options for ps(1) [default: -ef]
        #[arg(
            value_name = "CONTAINER [PS OPTIONS]",
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        words: Vec<String>,
    },
    /// Print what a container has used
    Events {
        /// Time from one print to the next, as in 5s or 500ms
        #[arg(long, value_name = "TIME", default_value = "5s")]
        interval: String,
        /// Print once
        #[arg(long)]
        stats: bool,
        /// The container
        #[arg(value_name = "CONTAINER")]
        id: String,
    },
    /// Change the limits of a container that runs; what is not given stays
    Update(Deferred<Update>),
    /// Write a config.json to start from
    Spec {
        /// The bundle's folder
        #[arg(long, short, default_value = ".")]
        bundle: PathBuf,
        /// For an ordinary user
        #[arg(long)]
        rootless: bool,
    },
    /// Print what this version understands, as JSON
    Features,
    /// Say how a command is used
    #[command(alias = "h")]
    Help {
        /// The command
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
    /// Print what running a bundle would do, one step a line
    Explain {
        /// The bundle's folder
        #[arg(default_value = ".")]
        bundle: PathBuf,
    },
}
