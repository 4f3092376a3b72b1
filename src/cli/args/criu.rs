//! `checkpoint` and `restore`.

use std::path::PathBuf;

use clap::Args;

use super::Common;

/// What `checkpoint` and `restore` share.
#[derive(Debug, Args)]
pub(crate) struct Criu {
    /// Folder of the images [default: ./checkpoint]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) image_path: Option<PathBuf>,
    /// Folder of criu's logs [default: that of the images]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) work_path: Option<PathBuf>,
    /// Established TCP connections too
    #[arg(long)]
    pub(crate) tcp_established: bool,
    /// Unix sockets whose other end is outside of the container
    #[arg(long)]
    pub(crate) ext_unix_sk: bool,
    /// A session or terminal of the caller's
    #[arg(long)]
    pub(crate) shell_job: bool,
    /// Locks on files
    #[arg(long)]
    pub(crate) file_locks: bool,
    /// Fetch memory when it is used
    #[arg(long)]
    pub(crate) lazy_pages: bool,
    /// Take from the images of parents what later ones replace
    #[arg(long)]
    pub(crate) auto_dedup: bool,
    /// What becomes of cgroups: soft, full, strict or ignore [default: soft]
    #[arg(long, value_name = "MODE")]
    pub(crate) manage_cgroups_mode: Option<String>,
    /// Namespace that is made empty: network, which always is
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) empty_ns: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    pub(crate) criu: Criu,
    /// Folder of an earlier pre-dump, relative to that of the images
    #[arg(long, value_name = "FOLDER")]
    pub(crate) parent_path: Option<PathBuf>,
    /// Let it run on
    #[arg(long)]
    pub(crate) leave_running: bool,
    /// Write its memory alone, as a parent for a later checkpoint, and let it run on
    #[arg(long)]
    pub(crate) pre_dump: bool,
    /// Leave out TCP connections that nobody has accepted yet
    #[arg(long)]
    pub(crate) tcp_skip_in_flight: bool,
    /// Link files that have no name any more back into their folders
    #[arg(long)]
    pub(crate) link_remap: bool,
    /// Descriptor that gets a zero byte once memory can be fetched
    #[arg(long, value_name = "FD", allow_hyphen_values = true)]
    pub(crate) status_fd: Option<i32>,
    /// Who takes the memory
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) page_server: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) criu: Criu,
    /// The bundle's folder
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Return as soon as it runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Label of a security module in place of that in the images
    #[arg(long, value_name = "TYPE:NAME")]
    pub(crate) lsm_profile: Option<String>,
    /// SELinux context of mounts in place of that in the images
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) lsm_mount_context: Option<String>,
    /// Accepted for compatibility: it is never one
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// Accepted for compatibility: criu makes the root
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// The container's name to be
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}
