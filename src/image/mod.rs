//! A bundle's root file system: from a tar stream, from a folder, from the machine's busybox.
//!
//! ```text
//! stream (file, pipe, object) ─► stream (gzip, zstd) ─► tar ─► unpack ─┐
//! folder ─────────────────────────────────────────────► copy ──────────┼─► tree ─► rootfs/
//! busybox ─────────────────────────────────────────────────────────────┘
//! ```
//!
//! `tree` alone makes files, and it trusts no name. `bundle` puts the result in its place.

mod bundle;
mod busybox;
mod copy;
mod meta;
mod remove;
mod stream;
mod tar;
mod tree;
mod unpack;

pub use bundle::{discard, existing, prepare, publish};
pub use busybox::busybox_rootfs;
pub use copy::copy_tree;
pub use stream::{Source, Watch};
pub use unpack::unpack;
