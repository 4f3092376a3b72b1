//! `checkpoint` and `restore`.

use std::path::PathBuf;

use clap::Args;

use super::args::Common;
use super::process::{self, Remains, absolute, check_console};
use crate::container::{self, Config, Restoration};
use crate::criu::{CgroupMode, Options, PageServer, Parent, Program};
use crate::error::{Error, Kind, Result};
use crate::interrupt::never;
use crate::plan::Facts;
use crate::state::Root;

/// What `checkpoint` and `restore` share.
#[derive(Debug, Args)]
pub(super) struct Shared {
    /// Folder of the images [default: ./checkpoint]
    #[arg(long, value_name = "FOLDER")]
    image_path: Option<PathBuf>,
    /// Folder of criu's logs [default: that of the images]
    #[arg(long, value_name = "FOLDER")]
    work_path: Option<PathBuf>,
    /// Established TCP connections too
    #[arg(long)]
    tcp_established: bool,
    /// Unix sockets whose other end is outside of the container
    #[arg(long)]
    ext_unix_sk: bool,
    /// A session or terminal of the caller's
    #[arg(long)]
    shell_job: bool,
    /// Locks on files
    #[arg(long)]
    file_locks: bool,
    /// Fetch memory when it is used
    #[arg(long)]
    lazy_pages: bool,
    /// Take from the images of parents what later ones replace
    #[arg(long)]
    auto_dedup: bool,
    /// What becomes of cgroups: soft, full, strict or ignore [default: soft]
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// Namespace that is made empty: network, which always is
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    shared: Shared,
    /// Folder of an earlier pre-dump, relative to that of the images
    #[arg(long, value_name = "FOLDER")]
    parent_path: Option<PathBuf>,
    /// Let it run on
    #[arg(long)]
    leave_running: bool,
    /// Write its memory alone, as a parent for a later checkpoint, and let it run on
    #[arg(long)]
    pre_dump: bool,
    /// Leave out TCP connections that nobody has accepted yet
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Link files that have no name any more back into their folders
    #[arg(long)]
    link_remap: bool,
    /// Descriptor that gets a zero byte once memory can be fetched
    #[arg(long, value_name = "FD", allow_hyphen_values = true)]
    status_fd: Option<i32>,
    /// Who takes the memory
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    id: String,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    #[command(flatten)]
    shared: Shared,
    /// The bundle's folder
    #[arg(long, short, default_value = ".")]
    bundle: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Return as soon as it runs
    #[arg(long, short)]
    detach: bool,
    /// Label of a security module in place of that in the images
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// SELinux context of mounts in place of that in the images
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// Accepted for compatibility: it is never one
    #[arg(long)]
    no_subreaper: bool,
    /// Accepted for compatibility: criu makes the root
    #[arg(long)]
    no_pivot: bool,
    /// The container's name to be
    #[arg(value_name = "CONTAINER")]
    id: String,
}

impl Shared {
    fn options(&self) -> Result<Options> {
        if let Some(other) = self.empty_ns.iter().find(|name| *name != "network") {
            let message = format!("--empty-ns {other:?}: only the network can be made empty");
            return Err(Error::new(Kind::Other, message));
        }
        let mode = |name: &String| {
            CgroupMode::named(name).ok_or_else(|| {
                Error::new(Kind::Other, format!("--manage-cgroups-mode {name:?} is not known"))
                    .hint("give soft, full, strict or ignore")
            })
        };
        let images = self.image_path.clone().unwrap_or_else(|| "checkpoint".into());
        Ok(Options {
            images: absolute(&images)?,
            work: self.work_path.as_deref().map(absolute).transpose()?,
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            lazy_pages: self.lazy_pages,
            auto_dedup: self.auto_dedup,
            cgroups: self.manage_cgroups_mode.as_ref().map(mode).transpose()?.unwrap_or_default(),
            ..Options::default()
        })
    }
}

/// As with runc, the container is deleted once it is on disk.
pub(super) fn checkpoint(root: &Root, asked: Checkpoint) -> Result<()> {
    let options = Options {
        page_server: asked.page_server.as_deref().map(page_server).transpose()?,
        status_fd: asked.status_fd.filter(|number| *number != -1),
        parent: asked.parent_path,
        leave_running: asked.leave_running,
        pre_dump: asked.pre_dump,
        tcp_skip_in_flight: asked.tcp_skip_in_flight,
        link_remap: asked.link_remap,
        ..asked.shared.options()?
    };
    container::checkpoint(root, &asked.id, &options, &mut never)?;
    if options.leave_running || options.pre_dump {
        return Ok(());
    }
    container::delete(root, &asked.id, false, &mut never)
}

pub(super) fn restore(root: &Root, asked: Restore) -> Result<u8> {
    if asked.common.preserve_fds > 0 {
        let message = "--preserve-fds means nothing to processes that have their descriptors";
        return Err(Error::new(Kind::Other, message).hint("leave it out"));
    }
    let options = Options {
        lsm_profile: asked.lsm_profile,
        lsm_mount_context: asked.lsm_mount_context,
        ..asked.shared.options()?
    };
    let bundle = absolute(&asked.bundle)?;
    let config = Config::read(&bundle)?;
    check_console(&config, &asked.common, asked.detach)?;
    let program = Program::find()?;
    let remains = Remains { id: &asked.id, detach: asked.detach, keep: false };
    process::attended(root, &asked.common, remains, || {
        container::restore(Restoration {
            root,
            id: &asked.id,
            bundle: &bundle,
            config,
            options: &options,
            program: &program,
            parent: Parent::Here,
            stdio: None,
            facts: &Facts::probe()?,
            warn: &crate::warn,
            announce: None,
        })
    })
}

fn page_server(text: &str) -> Result<PageServer> {
    let parsed = text.rsplit_once(':').and_then(|(address, port)| {
        // An address of version 6 stands in brackets.
        let address = address.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.parse().ok()?;
        (!address.is_empty()).then_some(PageServer { address, port })
    });
    parsed.ok_or_else(|| {
        Error::new(Kind::Other, format!("--page-server {text:?} is no ADDRESS:PORT"))
    })
}
