//! Control groups, version 1 and 2.
//!
//! [`Hierarchies`] is what this host has mounted, [`plan`] decides purely where
//! a container goes and what is written there, [`CgroupPlan::create`] does it,
//! and the [`Cgroup`] that results remembers resolved directories, so that
//! whoever pauses, kills or deletes the container derives nothing anew, nor who
//! changes its limits ([`Cgroup::update`]), reads its figures
//! ([`Cgroup::stats`]) or watches it ([`Watch`]).
//!
//! # The price of joining
//!
//! Moving a process by its number, or a whole process (`cgroup.procs`), takes
//! a semaphore that every fork takes too. The first such move after a quiet
//! moment waits for an RCU grace period: 6 to 15 ms. Two ways in do without:
//! being born inside by `CLONE_INTO_CGROUP` ([`Cgroup::unified_fd`]), which is
//! version 2's, and a thread moving itself by a `0` into version 1's `tasks`
//! ([`Cgroup::entrances`]): 0.15 ms for eleven hierarchies, both together.

mod create;
mod delete;
mod devices;
mod files;
mod freezer;
mod group;
mod hierarchies;
mod inside;
mod kill;
mod members;
mod mounts;
mod plan;
mod program;
mod resources;
pub mod stats;
mod systemd;
mod update;
mod v1;
mod v2;
mod watch;
mod write;

#[cfg(test)]
mod host_tests;

pub use group::{Cgroup, Directory};
pub use hierarchies::{Hierarchies, Hierarchy, Layout, Version};
pub use mounts::{CgroupMount, CgroupMounts};
pub use plan::{Asked, CgroupPlan, is_systemd_style, plan};
pub use stats::Stats;
pub use update::{Undo, Update};
pub use watch::{Change, Watch};
