//! Steps that concern the process: limits, identity, privileges, the program.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::AccessFlags;

use super::{Child, Done, Failure, channel, home, set_user};
use crate::plan::seccomp::Filter;
use crate::plan::step::{Namespace, SecurityModule, Step};
use crate::sys::clone::Strings;
use crate::sys::privilege::CapabilitySets;
use crate::sys::{clone, fds, path, pidfd, privilege, sched, seccomp};

impl<'plan> Child<'plan> {
    pub(super) fn process_step(&mut self, step: &'plan Step) -> Done {
        match step {
            Step::Rlimit { resource, soft, hard } => {
                privilege::set_limit(*resource, *soft, *hard).map_err(Failure::of("prlimit"))
            }
            Step::Scheduler(scheduler) => {
                sched::set_scheduler(scheduler).map_err(Failure::of("sched_setattr"))
            }
            Step::IoPriority { class, level } => {
                sched::set_io_priority(*class, *level).map_err(Failure::of("ioprio_set"))
            }
            Step::Affinity(processors) => set_affinity(processors.as_deref()),
            Step::MemoryPolicy { mode, flags, nodes } => {
                sched::set_memory_policy(mode | flags, nodes).map_err(Failure::of("set_mempolicy"))
            }
            Step::Personality(domain) => {
                sched::set_personality(*domain).map_err(Failure::of("personality"))
            }
            Step::Chdir(path) => change_directory(path),
            Step::DropBounding(bits) => drop_bounding(*bits),
            Step::User { uid, gid, groups } => become_user(*uid, *gid, groups.as_deref()),
            Step::Capabilities { sets, ambient } => set_capabilities(sets, *ambient),
            Step::NoNewPrivileges => {
                privilege::set_no_new_privileges().map_err(Failure::of("prctl"))
            }
            Step::Umask(mask) => {
                nix::sys::stat::umask(Mode::from_bits_truncate(*mask));
                Ok(())
            }
            Step::FindProgram { candidates, .. } => {
                self.program = Some(find_program(candidates)?);
                Ok(())
            }
            Step::CloseDescriptors { keep } => {
                fds::close_on_exec_from(3 + keep).map_err(Failure::of("close_range"))
            }
            Step::Home { uid } => {
                self.home = Some(home::variable(*uid));
                Ok(())
            }
            Step::ResetSignals => privilege::reset_signals().map_err(Failure::of("sigprocmask")),
            Step::LoadFilter(filter) => self.load_filter(filter),
            Step::NoProgram => Err(Failure::new("execve", Errno::ENOENT)),
            Step::Exec { argv, envp } => {
                let program = self.program.unwrap_or(c"");
                let with_home = self.home.take().map(|home| {
                    Strings::new(envp.as_slice().iter().cloned().chain([home]).collect())
                });
                let envp = with_home.as_ref().unwrap_or(envp);
                Err(Failure::new("execve", clone::execve(program, argv, envp)))
            }
            _ => Err(Failure::new("step", Errno::ENOSYS)),
        }
    }
}

impl Child<'_> {
    fn load_filter(&self, filter: &Filter) -> Done {
        let listener =
            seccomp::load(filter.flags, &filter.program).map_err(Failure::of("seccomp"))?;
        let Some(listener) = listener else { return Ok(()) };
        channel::send_listener(self.channel.as_fd(), listener.as_fd())
            .map_err(Failure::of("sendmsg"))?;
        // It closes on exec. close(2) would be one more call that the filter has to allow.
        std::mem::forget(listener);
        Ok(())
    }
}

/// A file of this process itself, whose files are the host's root's as long as it is not open: an
/// ordinary user (`by_user`) could not write it. The moment that it is, that user can look into it.
pub(super) fn write_own(path: &CStr, bytes: &[u8], by_user: bool) -> Done {
    let open_to_user = |open| {
        let set = if by_user { privilege::set_dumpable(open) } else { Ok(()) };
        set.map_err(Failure::of("prctl"))
    };
    open_to_user(true)?;
    write_file(path, bytes)?;
    open_to_user(false)
}

pub(super) fn write_sysctl(name: &CStr, value: &CStr) -> Done {
    let path = [b"/proc/sys/", name.to_bytes()].concat();
    let path = path::c_string(&path).map_err(Failure::of("open"))?;
    write_file(&path, value.to_bytes())
}

/// The thread's own file; each module takes other words.
pub(super) fn write_exec_label(module: SecurityModule, label: &CStr) -> Done {
    let (own, command) = match module {
        SecurityModule::AppArmor => {
            (c"/proc/thread-self/attr/apparmor/exec", [b"exec ", label.to_bytes()].concat())
        }
        SecurityModule::SeLinux => (c"/proc/thread-self/attr/exec", label.to_bytes().to_owned()),
    };
    match write_file(own, &command) {
        // Linux before 5.8 has no files of AppArmor's own.
        Err(Failure { call: "open", errno: Errno::ENOENT, .. })
            if module == SecurityModule::AppArmor =>
        {
            write_file(c"/proc/thread-self/attr/exec", &command)
        }
        written => written,
    }
}

pub(super) fn enter_time_namespace(offsets: &CStr) -> Done {
    const NEWTIME: i32 = Namespace::Time.flag();
    nix::sched::unshare(CloneFlags::from_bits_retain(NEWTIME)).map_err(Failure::of("unshare"))?;
    if !offsets.is_empty() {
        write_file(c"/proc/self/timens_offsets", offsets.to_bytes())?;
    }
    // The new one is for children; a process of one thread may follow them.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let namespace = open(c"/proc/self/ns/time_for_children", flags, Mode::empty())
        .map_err(Failure::of("open"))?;
    pidfd::setns(namespace, NEWTIME).map_err(Failure::of("setns"))
}

/// What SELinux calls the keys that this process makes; empty for what it calls the process.
pub(super) fn write_key_label(label: &[u8]) -> Done {
    write_file(c"/proc/thread-self/attr/keycreate", label)
}

/// A file of the host's /proc, and of nothing that was mounted in its place.
fn write_file(path: &CStr, bytes: &[u8]) -> Done {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(Failure::of("open"))?;
    let found = fstatfs(&file).map_err(Failure::of("fstatfs"))?;
    if found.filesystem_type() != PROC_SUPER_MAGIC {
        let detail = "what is mounted on the host's /proc is not procfs".to_owned();
        return Err(Failure { call: "fstatfs", errno: Errno::EXDEV, detail });
    }
    nix::unistd::write(file, bytes).map(drop).map_err(Failure::of("write"))
}

fn set_affinity(processors: Option<&[u64]>) -> Done {
    match processors {
        Some(processors) => {
            sched::set_affinity(processors).map_err(Failure::of("sched_setaffinity"))
        }
        None => {
            // The kernel takes off what the machine or the cgroup does not have. Where a sandbox
            // refuses the call, the processors stay as they came.
            let _ = sched::set_affinity(&[u64::MAX; 1024]);
            Ok(())
        }
    }
}

fn change_directory(directory: &CStr) -> Done {
    let root = super::open_path(c"/")?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let directory =
        path::open_in(root.as_fd(), directory, flags).map_err(Failure::of("openat2"))?;
    nix::unistd::fchdir(directory).map_err(Failure::of("fchdir"))
}

fn drop_bounding(bits: u64) -> Done {
    for capability in (0..64).filter(|capability| bits & 1 << capability != 0) {
        match privilege::drop_bounding(capability) {
            Ok(()) => {}
            // Past the last that this kernel knows.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(Failure::new("prctl", errno)),
        }
    }
    Ok(())
}

fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Done {
    // Else the change from user 0 would empty the permitted set before it is set to what is asked.
    privilege::set_keep_capabilities(true).map_err(Failure::of("prctl"))?;
    set_user(uid, gid, groups)?;
    privilege::set_keep_capabilities(false).map_err(Failure::of("prctl"))
}

fn set_capabilities(sets: &CapabilitySets, ambient: u64) -> Done {
    privilege::set_capabilities(sets).map_err(Failure::of("capset"))?;
    privilege::clear_ambient().map_err(Failure::of("prctl"))?;
    for capability in (0..64).filter(|capability| ambient & 1 << capability != 0) {
        privilege::raise_ambient(capability).map_err(Failure::of("prctl"))?;
    }
    Ok(())
}

/// The first candidate that this user may execute, as execvp(3) would choose.
fn find_program(candidates: &[CString]) -> Result<&CStr, Failure> {
    let mut reason = Errno::ENOENT;
    for candidate in candidates {
        match may_execute(candidate) {
            Ok(()) if is_directory(candidate) => reason = Errno::EACCES,
            Ok(()) => return Ok(candidate),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => reason = errno,
        }
    }
    Err(Failure::new("execve", reason))
}

/// Asked for the effective user, who is the real one too by now: where a filter of system calls is
/// older than faccessat2(2) and refuses it, the older call answers the same.
fn may_execute(path: &CStr) -> nix::Result<()> {
    let asked = AccessFlags::X_OK;
    match nix::unistd::faccessat(AT_FDCWD, path, asked, AtFlags::AT_EACCESS) {
        Err(Errno::EPERM) => nix::unistd::access(path, asked),
        answer => answer,
    }
}

fn is_directory(path: &CStr) -> bool {
    nix::sys::stat::stat(path).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}
