//! checkpoint: a container's processes written to disk.

use std::time::Instant;

use super::Held;
use super::delete::PATIENCE;
use crate::cgroup::Version;
use crate::criu::{Descriptors, Dump, Options};
use crate::error::Result;
use crate::interrupt::{self, Interrupt, never};
use crate::plan::step::StartSignal;
use crate::plan::{Facts, Plan, Situation};
use crate::state::{Root, Status, pidfd_of};

/// The annotation by which a container has criu read another file of options, or with an empty one
/// none.
pub(super) const CONFIG_FILE: &str = "org.criu.config";

/// Writes a container's processes to disk. It is stopped then, unless it is to run on.
///
/// # Errors
/// It is not running; criu is not there or refuses, and then it runs on.
pub fn checkpoint(
    root: &Root,
    id: &str,
    options: &Options,
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let held = Held::find(root, id, interrupt)?;
    held.expect("checkpoint", &[Status::Running, Status::Paused])?;
    dump(&held, options, interrupt)
        .map_err(|error| error.context(format_args!("cannot checkpoint container {id:?}")))?;
    if options.leave_running || options.pre_dump {
        return Ok(());
    }
    // In a frozen cgroup of version 1 nothing ends.
    if held.status == Status::Paused {
        held.state.cgroup.thaw()?;
    }
    // Killed by criu. From here on nothing is given up: what it was is on disk.
    if let Ok(init) = pidfd_of(held.state.init) {
        interrupt::readable(&init, Some(Instant::now() + PATIENCE), &mut never)?;
    }
    Ok(())
}

fn dump(held: &Held, options: &Options, interrupt: Interrupt<'_>) -> Result<()> {
    let state = &held.state;
    let spec = state.spec()?;
    let mut situation = Situation::new(&*state.id, &*state.bundle, StartSignal::Socket);
    situation.session_keyring = state.session_keyring;
    let plan = Plan::compile(&spec, &Facts::probe()?, &situation)?;
    let init = state.init.pid;
    // Of a terminal nothing is recorded: it is the container's own.
    let own = Descriptors::of(&init.to_string(), [0, 1, 2]);
    let recorded = Some(&state.descriptors).filter(|recorded| !recorded.is_empty());
    Dump {
        options,
        init,
        rootfs: &state.rootfs,
        plan: &plan,
        freezer: state.cgroup.freezer().map(|it| (it.path(), it.version() == Version::Two)),
        descriptors: recorded.unwrap_or(&own),
        config_file: state.annotations.get(CONFIG_FILE).map(String::as_str),
    }
    .carry_out(interrupt)
    .map_err(|error| match nix::unistd::geteuid().is_root() {
        true => error,
        false => error.hint("criu asks for root"),
    })
}

/// What a container with these standard streams, or else with this process's, is started with.
pub(super) fn descriptors(
    config: &super::Config,
    stdio: Option<&[std::os::fd::OwnedFd; 3]>,
) -> Descriptors {
    use std::os::fd::AsRawFd;
    let process = config.spec.process().as_ref();
    if process.and_then(oci_spec::runtime::Process::terminal) == Some(true) {
        return Descriptors::default();
    }
    let numbers = stdio.map_or([0, 1, 2], |stdio| stdio.each_ref().map(AsRawFd::as_raw_fd));
    Descriptors::of("self", numbers)
}
