//! HOME, where the config leaves it out: what the container's own /etc/passwd says of the user.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::sys::path;

/// More than any real one has; what comes after is not looked at.
const LONGEST_FILE: u64 = 4 << 20;

/// The variable for this user; `/` for one of whom the file says nothing, or nothing of use.
///
/// Whoever made the image chose what is at that path. It is read with the rights of the program,
/// which could have read it as well; it is not waited for, and it ends.
pub(super) fn variable(uid: u32) -> CString {
    let home = open().and_then(|passwd| find(BufReader::new(passwd.take(LONGEST_FILE)), uid));
    let home = home.filter(|home| !home.is_empty()).unwrap_or_else(|| b"/".to_vec());
    CString::new([b"HOME=", &*home].concat()).unwrap_or_else(|_| c"HOME=/".to_owned())
}

fn open() -> Option<File> {
    let root = super::open_path(c"/").ok()?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let passwd = match path::open_in(root.as_fd(), c"/etc/passwd", flags) {
        // A filter of system calls that is older than openat2(2) refuses that one; the root is the
        // container's already, and what is opened is the program's to open.
        Err(Errno::EPERM) => openat(&root, c"etc/passwd", flags | OFlag::O_CLOEXEC, Mode::empty()),
        opened => opened,
    };
    let file = File::from(passwd.ok()?);
    file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
}

/// The sixth field of the first line that has one and the user's number in its third (passwd(5)).
fn find(mut passwd: impl BufRead, uid: u32) -> Option<Vec<u8>> {
    let uid = uid.to_string();
    let mut line = Vec::new();
    loop {
        line.clear();
        if passwd.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let mut fields = line.split(|byte| *byte == b':').skip(2);
        if !line.starts_with(b"#")
            && fields.next() == Some(uid.as_bytes())
            && let Some(home) = fields.nth(2)
        {
            return Some(home.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn finds_the_first_line_of_a_user() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
            # 7:7:7:7:7:7\n\n:::\nshort:x:7\n\
            two:x:7:0::/second:/bin/sh\nthree:x:7:0::/third\nlast:x:8:0:a b:/the last";
        let home = |uid| find(passwd.as_bytes(), uid).map(String::from_utf8);
        assert_eq!(home(0), Some(Ok("/root".to_owned())));
        assert_eq!(home(7), Some(Ok("/second".to_owned())));
        assert_eq!(home(8), Some(Ok("/the last".to_owned())));
        assert_eq!(home(9), None);
        assert_eq!(find(&[0xff, b':', b'\n'][..], 0), None);
    }
}
