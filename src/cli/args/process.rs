//! The commands that clone.

use std::path::PathBuf;

use clap::Args;

/// What `create`, `run` and `exec` share.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Unix socket to send the terminal's descriptor to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Unix socket to send the process's pidfd to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File to write the process's number to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Descriptors from 3 on that the program inherits, after those of LISTEN_FDS
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) preserve_fds: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The bundle's folder
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Leave the program the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Move the rootfs onto / instead of pivoting into it, where an initramfs is the root. Unsafe:
    /// the host's tree stays in the container's mount namespace
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// The global flag
    #[arg(skip)]
    pub(crate) systemd_cgroup: bool,
    /// The container's name to be
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Return as soon as its program runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Do not delete it when its program ends
    #[arg(long)]
    pub(crate) keep: bool,
    /// Accepted for compatibility: it is never one
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Return as soon as the program runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// File with the process as JSON
    #[arg(long, short, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Working directory
    #[arg(long)]
    pub(crate) cwd: Option<PathBuf>,
    /// Environment variable to add
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// User, and group
    #[arg(long, short, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Group to add
    #[arg(long, short = 'g', value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// Capability to add
    #[arg(long, short, value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,
    /// Cgroup inside of the container's to be in, of these controllers with cgroup v1
    #[arg(long, value_name = "[CONTROLLER,…:]PATH")]
    pub(crate) cgroup: Vec<String>,
    /// Enter a paused container too: the program runs when it is resumed
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Let no exec gain privileges
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}
