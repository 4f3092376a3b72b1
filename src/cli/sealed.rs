//! The program runs from memory that nobody can write to.
//!
//! What enters a container can be reached from inside through `/proc`, its own
//! executable too: a process in there could write to the file and have the
//! host run it (CVE-2019-5736). So before it clones, the program executes a
//! sealed copy of itself; the launcher that Python starts is one already.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::{Error, Result};
use crate::path_c_string;
use crate::sys::clone::{Strings, execve};
use crate::sys::{memfd, privilege};

/// Makes sure of it: returns in the sealed copy only.
pub(super) fn ensure() -> Result<()> {
    const SELF: &str = "/proc/self/exe";
    let executable = File::open(SELF).map_err(|error| Error::io("open", SELF, &error))?;
    if !memfd::is_sealed(&executable) {
        let copy = memfd::sealed_copy(&executable)
            .map_err(|errno| Error::path_call("memfd_create", SELF, errno))?;
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let argv = strings(std::env::args_os())?;
        let envp = strings(std::env::vars_os().map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            variable
        }))?;
        let errno = execve(&path_c_string(Path::new(&path))?, &argv, &envp);
        return Err(Error::path_call("execve", "a sealed copy of this program", errno));
    }
    privilege::set_dumpable(false).map_err(|errno| Error::call("prctl", "PR_SET_DUMPABLE", errno))
}

fn strings(words: impl Iterator<Item = std::ffi::OsString>) -> Result<Strings> {
    words.map(|word| path_c_string(Path::new(&word))).collect::<Result<_>>().map(Strings::new)
}
