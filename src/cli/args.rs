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
    /// File to append errors, warnings and what --debug says to
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// Say what is done, each step of it, in the log or on standard error
    #[arg(long)]
    pub(super) debug: bool,
    /// Have systemd make the cgroups; a path in the config must have the form slice:prefix:name
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
    Update(Box<Update>),
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
    /// The global flag
    #[arg(skip)]
    pub(super) systemd_cgroup: bool,
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

#[derive(Debug, Args)]
pub(super) struct Update {
    /// File with linux.resources as JSON, or - for standard input; all other options are ignored
    #[arg(long, short, value_name = "FILE")]
    pub(super) resources: Option<PathBuf>,
    /// Weight of input and output, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub(super) blkio_weight: Option<u16>,
    /// Period of the quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_period: Option<u64>,
    /// Time on a processor in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(super) cpu_quota: Option<i64>,
    /// Time saved up that may be used beyond the quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_burst: Option<u64>,
    /// Weight of time on a processor, 2 to 262144
    #[arg(long, value_name = "SHARES")]
    pub(super) cpu_share: Option<u64>,
    /// Period of the quota of real-time processes, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_rt_period: Option<u64>,
    /// Time of real-time processes in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(super) cpu_rt_runtime: Option<i64>,
    /// Processors, as in 0-3,7
    #[arg(long, value_name = "LIST")]
    pub(super) cpuset_cpus: Option<String>,
    /// Nodes of memory, as in 0-1
    #[arg(long, value_name = "LIST")]
    pub(super) cpuset_mems: Option<String>,
    /// 1 to give it time that nobody else wants, 0 to end that
    #[arg(long, value_name = "0|1")]
    pub(super) cpu_idle: Option<i64>,
    /// Memory, as in 512M; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(super) memory: Option<String>,
    /// Memory that it is left under pressure
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(super) memory_reservation: Option<String>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(super) memory_swap: Option<String>,
    /// Without effect: Linux has dropped it
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, hide = true)]
    pub(super) kernel_memory: Option<String>,
    /// Without effect: Linux has dropped it
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, hide = true)]
    pub(super) kernel_memory_tcp: Option<String>,
    /// Processes and threads; -1 for no limit
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub(super) pids_limit: Option<i64>,
    /// Shares of the cache, as linux.intelRdt.l3CacheSchema has them
    #[arg(long, value_name = "SCHEMA")]
    pub(super) l3_cache_schema: Option<String>,
    /// Shares of memory bandwidth, as linux.intelRdt.memBwSchema has them
    #[arg(long, value_name = "SCHEMA")]
    pub(super) mem_bw_schema: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(super) id: String,
}
