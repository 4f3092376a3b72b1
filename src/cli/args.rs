//! What may be said on the command line; meaning is given to it elsewhere.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An OCI container runtime.
#[derive(Debug, Parser)]
#[command(name = "rscontainer", version, about, disable_version_flag = true)]
#[command(disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// Folder of the containers' state [default: /run/rscontainer, for ordinary users
    /// $XDG_RUNTIME_DIR/rscontainer]
    #[arg(long, value_name = "FOLDER")]
    pub(super) root: Option<PathBuf>,
    /// File to append errors and warnings to
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// Accepted for compatibility: errors are always complete
    #[arg(long)]
    pub(super) debug: bool,
    /// Have systemd make the cgroups (not supported yet)
    #[arg(long)]
    pub(super) systemd_cgroup: bool,
    /// Print the version
    #[arg(long, short, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Accepted for compatibility: criu is looked for along PATH
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub(super) criu: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a container, to be started later
    Create(Create),
    /// Create a container and run its program
    Run(Run),
    /// Run a further program in a container
    Exec(Box<Exec>),
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
        /// Name or number
        #[arg(default_value = "SIGTERM")]
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
    Checkpoint(Box<super::criu::Checkpoint>),
    /// Create a container of processes that were written to disk
    Restore(Box<super::criu::Restore>),
    /// List containers
    List {
        /// As a table or as JSON
        #[arg(long, short, value_enum, default_value_t = ListFormat::Table)]
        format: ListFormat,
        /// Ids only
        #[arg(long, short)]
        quiet: bool,
    },
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
    /// Print what running a bundle would do, one step a line
    Explain {
        /// The bundle's folder
        #[arg(default_value = ".")]
        bundle: PathBuf,
    },
}

/// What `create`, `run` and `exec` share.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Unix socket to send the terminal's descriptor to
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// Unix socket to send the process's pidfd to
    #[arg(long, value_name = "SOCKET")]
    pub(super) pidfd_socket: Option<PathBuf>,
    /// File to write the process's number to
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Descriptors from 3 on that the program inherits, after those of LISTEN_FDS
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(super) preserve_fds: u16,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The bundle's folder
    #[arg(long, short, default_value = ".")]
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) common: Common,
    /// Leave the program the caller's session keyring
    #[arg(long)]
    pub(super) no_new_keyring: bool,
    /// Move the rootfs onto / instead of pivoting into it, where an initramfs is the root. Unsafe:
    /// the host's tree stays in the container's mount namespace
    #[arg(long)]
    pub(super) no_pivot: bool,
    /// The container's name to be
    #[arg(value_name = "CONTAINER")]
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) create: Create,
    /// Return as soon as its program runs
    #[arg(long, short)]
    pub(super) detach: bool,
    /// Do not delete it when its program ends
    #[arg(long)]
    pub(super) keep: bool,
    /// Accepted for compatibility: it is never one
    #[arg(long)]
    pub(super) no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(super) struct Exec {
    #[command(flatten)]
    pub(super) common: Common,
    /// Return as soon as the program runs
    #[arg(long, short)]
    pub(super) detach: bool,
    /// File with the process as JSON
    #[arg(long, short, value_name = "FILE")]
    pub(super) process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(long, short)]
    pub(super) tty: bool,
    /// Working directory
    #[arg(long)]
    pub(super) cwd: Option<PathBuf>,
    /// Environment variable to add
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// User, and group
    #[arg(long, short, value_name = "UID[:GID]")]
    pub(super) user: Option<String>,
    /// Group to add
    #[arg(long, short = 'g', value_name = "GID")]
    pub(super) additional_gids: Vec<u32>,
    /// Capability to add
    #[arg(long, short, value_name = "CAPABILITY")]
    pub(super) cap: Vec<String>,
    /// Cgroup inside of the container's to be in, of these controllers with cgroup v1
    #[arg(long, value_name = "[CONTROLLER,…:]PATH")]
    pub(super) cgroup: Vec<String>,
    /// Enter a paused container too: the program runs when it is resumed
    #[arg(long)]
    pub(super) ignore_paused: bool,
    /// Let no exec gain privileges
    #[arg(long)]
    pub(super) no_new_privs: bool,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(super) apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(super) process_label: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(super) id: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}
