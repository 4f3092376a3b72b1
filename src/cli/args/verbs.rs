//! The commands with few flags.

use std::path::PathBuf;

use clap::Args;

use super::ListFormat;

/// No flags at all.
#[derive(Debug, Args)]
pub(crate) struct Nothing {}

/// `start`, `state`, `pause`, `resume`.
#[derive(Debug, Args)]
pub(crate) struct Container {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Send it to all processes of the container
    #[arg(long, short)]
    pub(crate) all: bool,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// Name or number of the signal
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    pub(crate) signal: String,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Kill it first if it runs; no error if there is none
    #[arg(long, short)]
    pub(crate) force: bool,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// As a table or as JSON
    #[arg(long, short, value_enum, default_value_t = ListFormat::Table)]
    pub(crate) format: ListFormat,
    /// Ids only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// As ps(1) shows them, or their numbers as JSON
    #[arg(long, short, value_enum, default_value_t = ListFormat::Table)]
    pub(crate) format: ListFormat,
    /// The container, and options for ps(1) [default: -ef]
    #[arg(
        value_name = "CONTAINER [PS OPTIONS]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Time from one print to the next, as in 5s or 500ms
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub(crate) interval: String,
    /// Print once
    #[arg(long)]
    pub(crate) stats: bool,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

/// `spec`.
#[derive(Debug, Args)]
pub(crate) struct WriteSpec {
    /// The bundle's folder
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// For an ordinary user
    #[arg(long)]
    pub(crate) rootless: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Help {
    /// The command
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// The bundle's folder
    #[arg(default_value = ".")]
    pub(crate) bundle: PathBuf,
}
