//! What an inode carries beside its content.

use std::ffi::CString;

use nix::sys::time::TimeSpec;

/// Mode, owner, times and extended attributes of one inode.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u32,
    /// The owner's number; names mean nothing outside the tree that they come from.
    pub(super) uid: u32,
    /// The group's number.
    pub(super) gid: u32,
    /// When the content changed; none leaves what making it set.
    pub(super) modified: Option<TimeSpec>,
    /// When it was last read.
    pub(super) accessed: Option<TimeSpec>,
    /// Extended attributes, by full name.
    pub(super) xattrs: Vec<(CString, Vec<u8>)>,
}

impl Meta {
    /// An inode of root's with a mode, and nothing else said.
    pub(super) fn with_mode(mode: u32) -> Self {
        Meta { mode, uid: 0, gid: 0, modified: None, accessed: None, xattrs: Vec::new() }
    }

    /// Keeps the attributes that mean the same on this machine: the users' own, capabilities,
    /// access lists. Labels are the host's policy, and `trusted.*` steers overlayfs.
    pub(super) fn with_xattrs(mut self, xattrs: Vec<(CString, Vec<u8>)>) -> Self {
        self.xattrs = xattrs;
        self.xattrs.retain(|(name, _)| {
            let name = name.to_bytes();
            name.starts_with(b"user.")
                || name.starts_with(b"system.posix_acl_")
                || name == b"security.capability"
        });
        self
    }
}

/// What an entry of a tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// Another name of a file in the same tree.
    HardLink(Vec<u8>),
    /// A symbolic link with its text.
    Symlink(Vec<u8>),
    /// A device of characters, by major and minor number.
    CharDevice(u64, u64),
    /// A device of blocks.
    BlockDevice(u64, u64),
    /// A named pipe.
    Fifo,
    /// A socket's name, left by who listened there.
    Socket,
}
