//! criu(8), which writes processes to disk and brings them back.
//!
//! It is asked by its own protocol: `criu swrk FD` serves requests on a socket, in the messages of
//! [`rpc`], and tells on the way of what the one who asked may want to do at that moment. What of a
//! container's tree is the host's, and so not criu's to write, is read off the container's plan.

mod descriptors;
mod dump;
mod external;
mod failure;
mod namespaces;
mod options;
mod program;
mod restore;
mod rpc;
mod session;
mod tree;

pub use descriptors::Descriptors;
pub use dump::Dump;
pub use options::{CgroupMode, Options, PageServer};
pub use program::Program;
pub use restore::{Restore, Restorer};
pub use session::{Notification, Parent};
pub use tree::Tree;
