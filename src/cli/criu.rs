//! `checkpoint` and `restore`.

use super::args::{Checkpoint, Criu, Restore};
use super::process::{self, Remains, absolute, check_console};
use crate::container::{self, Config, Restoration};
use crate::criu::{CgroupMode, Options, PageServer, Parent, Program};
use crate::error::{Error, Kind, Result};
use crate::interrupt::never;
use crate::plan::Facts;
use crate::state::Root;

fn options(asked: &Criu) -> Result<Options> {
    if let Some(other) = asked.empty_ns.iter().find(|name| *name != "network") {
        let message = format!("--empty-ns {other:?}: only the network can be made empty");
        return Err(Error::new(Kind::Other, message).hint("name network, or leave it out"));
    }
    let mode = |name: &String| {
        CgroupMode::named(name).ok_or_else(|| {
            Error::new(Kind::Other, format!("--manage-cgroups-mode {name:?} is not known"))
                .hint("give soft, full, strict or ignore")
        })
    };
    let images = asked.image_path.clone().unwrap_or_else(|| "checkpoint".into());
    Ok(Options {
        images: absolute(&images)?,
        work: asked.work_path.as_deref().map(absolute).transpose()?,
        tcp_established: asked.tcp_established,
        ext_unix_sk: asked.ext_unix_sk,
        shell_job: asked.shell_job,
        file_locks: asked.file_locks,
        lazy_pages: asked.lazy_pages,
        auto_dedup: asked.auto_dedup,
        cgroups: asked.manage_cgroups_mode.as_ref().map(mode).transpose()?.unwrap_or_default(),
        ..Options::default()
    })
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
        ..options(&asked.criu)?
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
        ..options(&asked.criu)?
    };
    let bundle = absolute(&asked.bundle)?;
    let config = Config::read(&bundle)?;
    check_console(&config, &asked.common, asked.detach)?;
    let program = Program::find()?;
    let remains = Remains { detach: asked.detach, keep: false };
    process::attended(&asked.common, remains, None, |_| {
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
            .hint("write it as in 127.0.0.1:1234")
    })
}
