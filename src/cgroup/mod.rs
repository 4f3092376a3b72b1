//! Control groups, version 1 and 2.
//!
//! [`Hierarchies`] is what this host has mounted, [`plan`] decides purely where
//! a container goes and what is written there, [`CgroupPlan::create`] does it,
//! and the [`Cgroup`] that results remembers resolved directories, so that
//! whoever pauses, kills or deletes the container derives nothing anew.
//!
//! # The price of joining
//!
//! Moving a process by its number, or a whole process (`cgroup.procs`), takes
//! a semaphore that forks take too. On an idle host the kernel first waits for
//! an RCU grace period there: 10 ms and more, once for each burst of moves. Two ways in do
//! without: being born inside, by `CLONE_INTO_CGROUP` ([`Cgroup::unified`],
//! version 2 only), and a thread writing `0` into a version 1 `tasks` file
//! ([`Cgroup::entrances`]): 0.14 ms for eleven hierarchies, both together.

mod create;
mod delete;
mod devices;
mod files;
mod freezer;
mod group;
mod hierarchies;
mod kill;
mod members;
mod mounts;
mod plan;
mod resources;
mod v1;
mod v2;

#[cfg(test)]
mod host_tests;

pub use group::{Cgroup, Directory};
pub use hierarchies::{Hierarchies, Hierarchy, Layout, Version};
pub use mounts::{CgroupMount, CgroupMounts};
pub use plan::{CgroupPlan, plan};
