//! The floor: what the kernel alone needs for one container.
//!
//! Every system call that running a program in the busybox bundle takes, in a
//! straight line, with the bundle's configuration written into the code. Nothing is parsed,
//! nothing is stored, nothing is checked that the kernel does not check, so the
//! time this takes is the time no runtime can go below without doing less.
//!
//! ```text
//! limit BUNDLE [--cgroups] [--overlap] [--repeat N [--paced]] [-- PROGRAM [ARG…]]
//! ```
//!
//! `--overlap` makes the cgroups while the child mounts. `--repeat` prints how
//! many nanoseconds each of N runs took, one a line, from before the clone to
//! after the last cgroup is gone; with `--paced` each run waits for a byte on
//! standard input, so that a benchmark can take turns between competitors.

#![no_main]

use std::ffi::{CStr, CString, c_char, c_int, c_ulong, c_void};
use std::io::{Read, Write};
use std::ptr::null;

use libc::{
    MNT_DETACH, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, MS_REMOUNT, MS_SLAVE,
    MS_STRICTATIME,
};

const CGROUP_ROOT: &CStr = c"/sys/fs/cgroup";
const CGROUP2_MAGIC: i64 = 0x6367_7270;
const NO_SUID_EXEC_DEV: c_ulong = MS_NOSUID | MS_NOEXEC | MS_NODEV;

/// CAP_KILL, CAP_NET_BIND_SERVICE and CAP_AUDIT_WRITE.
const CAPABILITIES: [c_int; 3] = [5, 10, 29];

const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"dev/null", 1, 3),
    (c"dev/zero", 1, 5),
    (c"dev/full", 1, 7),
    (c"dev/random", 1, 8),
    (c"dev/urandom", 1, 9),
    (c"dev/tty", 5, 0),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];

/// What every runtime allows after "deny all"; the kernel takes one rule a write.
const DEVICE_RULES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

const MASKED_FILES: [&CStr; 5] = [
    c"/proc/kcore",
    c"/proc/latency_stats",
    c"/proc/timer_list",
    c"/proc/timer_stats",
    c"/proc/sched_debug",
];
const MASKED_FOLDER: &CStr = c"/sys/firmware";

const READONLY: [&CStr; 6] = [
    c"/proc/asound",
    c"/proc/bus",
    c"/proc/fs",
    c"/proc/irq",
    c"/proc/sys",
    c"/proc/sysrq-trigger",
];

fn die(what: &str) -> ! {
    eprintln!("limit: {what}: {}", std::io::Error::last_os_error());
    std::process::exit(125)
}

/// For the calls that must succeed.
#[track_caller]
fn must(result: impl Into<i64>) -> i64 {
    let result = result.into();
    if result < 0 {
        die(&format!("line {}", std::panic::Location::caller().line()));
    }
    result
}

/// For the targets that a kernel may lack: absent is fine, failing is not.
/// False means absent.
#[track_caller]
fn unless_absent(result: c_int) -> bool {
    if result < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error();
        if errno != Some(libc::ENOENT) {
            die(&format!("line {}", std::panic::Location::caller().line()));
        }
    }
    result >= 0
}

/// A path below one cgroup hierarchy, built once so that a run formats nothing.
struct Hierarchy {
    /// Its folder's name in the container's /sys/fs/cgroup; empty where the one
    /// unified hierarchy is mounted there itself.
    target: CString,
    folder: CString,
    /// A process of one thread that writes 0 here joins without the lock over all
    /// the host's forks, which cgroup.procs takes; on a host that was idle that lock
    /// alone waits for a grace period, several times the rest of the run.
    tasks: CString,
    /// cpuset refuses tasks until it was told its cpus and memory nodes.
    cpuset: Vec<(CString, CString)>,
    devices: Option<(CString, CString)>,
    unified: bool,
}

fn join(parts: &[&str]) -> CString {
    CString::new(parts.join("/")).unwrap()
}

fn hierarchy(mount: &str, name: &str, target: String, unified: bool) -> Hierarchy {
    let has = |controller: &str| name.split(',').any(|part| part == controller);
    let folder = format!("limit-{}", std::process::id());
    Hierarchy {
        target: CString::new(target).unwrap(),
        folder: join(&[mount, &folder]),
        tasks: join(&[mount, &folder, "tasks"]),
        cpuset: if has("cpuset") {
            ["cpuset.cpus", "cpuset.mems"]
                .map(|file| (join(&[mount, file]), join(&[mount, &folder, file])))
                .into()
        } else {
            Vec::new()
        },
        devices: has("devices").then(|| {
            let file = |file| join(&[mount, &folder, file]);
            (file("devices.deny"), file("devices.allow"))
        }),
        unified,
    }
}

fn is_unified(path: &CStr) -> bool {
    // SAFETY: statfs is plain data and the path is a C string.
    unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        libc::statfs(path.as_ptr(), &mut found) == 0 && found.f_type == CGROUP2_MAGIC
    }
}

/// A listing of one folder stands in for reading and parsing mountinfo.
fn hierarchies() -> Vec<Hierarchy> {
    let root = CGROUP_ROOT.to_str().unwrap();
    if is_unified(CGROUP_ROOT) {
        return vec![hierarchy(root, "", "sys/fs/cgroup".into(), true)];
    }
    let mut found: Vec<Hierarchy> = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let mount = format!("{root}/{name}");
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && std::fs::exists(format!("{mount}/cgroup.procs")).unwrap_or(false) {
            let unified = is_unified(&CString::new(mount.as_str()).unwrap());
            found.push(hierarchy(&mount, &name, format!("sys/fs/cgroup/{name}"), unified));
        }
    }
    // The unified one first: the child can be born inside it even while the
    // others are still being made.
    found.sort_by_key(|hierarchy| !hierarchy.unified);
    found
}

fn write_to(path: &CStr, texts: &[&[u8]]) {
    // SAFETY: the path is a C string, the buffers outlive the calls.
    unsafe {
        let file = must(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC)) as c_int;
        for text in texts {
            must(libc::write(file, text.as_ptr().cast(), text.len()) as i64);
        }
        libc::close(file);
    }
}

fn make_cgroup(hierarchy: &Hierarchy) {
    // SAFETY: the path is a C string.
    must(unsafe { libc::mkdir(hierarchy.folder.as_ptr(), 0o755) });
    for (from, to) in &hierarchy.cpuset {
        let mut text = [0_u8; 256];
        // SAFETY: the buffer is as long as said.
        let length = unsafe {
            let file = must(libc::open(from.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)) as c_int;
            let length = must(libc::read(file, text.as_mut_ptr().cast(), text.len()) as i64);
            libc::close(file);
            length as usize
        };
        write_to(to, &[&text[..length]]);
    }
    if let Some((deny, allow)) = &hierarchy.devices {
        write_to(deny, &[b"a"]);
        write_to(allow, &DEVICE_RULES.map(str::as_bytes));
    }
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: c_ulong, data: &CStr) -> c_int {
    let data: *const c_void = if data.is_empty() { null() } else { data.as_ptr().cast() };
    // SAFETY: all four are C strings or null.
    unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data) }
}

fn mkdir(path: &CStr) {
    // SAFETY: the path is a C string.
    must(unsafe { libc::mkdir(path.as_ptr(), 0o755) });
}

/// The mounts in the order of the configuration; the current folder is the root.
fn mounts(cgroups: &[Hierarchy]) {
    must(mount(c"proc", c"proc", c"proc", 0, c""));
    let flags = MS_NOSUID | MS_STRICTATIME;
    must(mount(c"tmpfs", c"dev", c"tmpfs", flags, c"mode=755,size=65536k"));
    mkdir(c"dev/pts");
    let flags = MS_NOSUID | MS_NOEXEC;
    let data = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    must(mount(c"devpts", c"dev/pts", c"devpts", flags, data));
    mkdir(c"dev/shm");
    must(mount(c"shm", c"dev/shm", c"tmpfs", NO_SUID_EXEC_DEV, c"mode=1777,size=65536k"));
    mkdir(c"dev/mqueue");
    must(mount(c"mqueue", c"dev/mqueue", c"mqueue", NO_SUID_EXEC_DEV, c""));
    must(mount(c"sysfs", c"sys", c"sysfs", NO_SUID_EXEC_DEV | MS_RDONLY, c""));
    if !cgroups.is_empty() {
        mount_cgroups(cgroups);
    }
}

fn mount_cgroups(cgroups: &[Hierarchy]) {
    let root = c"sys/fs/cgroup";
    if cgroups[0].target.as_c_str() != root {
        must(mount(c"tmpfs", root, c"tmpfs", NO_SUID_EXEC_DEV, c"mode=755"));
    }
    for hierarchy in cgroups {
        if hierarchy.target.as_c_str() != root {
            mkdir(&hierarchy.target);
        }
        must(mount(&hierarchy.folder, &hierarchy.target, c"", MS_BIND, c""));
    }
    // One recursive call at the end instead of a remount for each of them.
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the structure is as long as said.
    must(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            root.as_ptr(),
            libc::AT_RECURSIVE,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    });
}

fn devices() {
    // SAFETY: the paths are C strings.
    unsafe {
        for (path, major, minor) in DEVICES {
            must(libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(major, minor)));
        }
        for (to, from) in LINKS {
            must(libc::symlink(to.as_ptr(), from.as_ptr()));
        }
    }
}

fn hide_paths() {
    for path in MASKED_FILES {
        unless_absent(mount(c"/dev/null", path, c"", MS_BIND, c""));
    }
    unless_absent(mount(c"tmpfs", MASKED_FOLDER, c"tmpfs", MS_RDONLY, c""));
    for path in READONLY {
        if unless_absent(mount(path, path, c"", MS_BIND | MS_REC, c"")) {
            must(mount(path, path, c"", MS_BIND | MS_REMOUNT | MS_RDONLY, c""));
        }
    }
}

fn loopback_up() {
    // SAFETY: ifreq is plain data; the kernel reads the name and the flags.
    unsafe {
        let socket =
            must(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)) as c_int;
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as c_char;
        request.ifr_name[1] = b'o' as c_char;
        request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
        must(libc::ioctl(socket, libc::SIOCSIFFLAGS, &request));
        libc::close(socket);
    }
}

fn drop_privileges() {
    let mask = CAPABILITIES.iter().fold(0_u32, |mask, bit| mask | 1 << bit);
    // Version 3 of the structure: a header, then two words of each of the sets.
    let header: [u32; 2] = [0x2008_0522, 0];
    let sets: [u32; 6] = [mask, mask, mask, 0, 0, 0];
    // SAFETY: the arrays have the layout that capset reads.
    unsafe {
        let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
        must(libc::setrlimit(libc::RLIMIT_NOFILE, &limit));
        for capability in 0.. {
            if CAPABILITIES.contains(&capability) {
                continue;
            }
            // The first number the kernel does not know ends the list.
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                break;
            }
        }
        must(libc::setgroups(0, null()));
        must(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()));
        for capability in CAPABILITIES {
            must(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0));
        }
        must(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    }
}

struct Run {
    rootfs: CString,
    program: CString,
    arguments: Vec<CString>,
    cgroups: Vec<Hierarchy>,
    overlap: bool,
}

/// What the child does; it ends in the program.
fn child(run: &Run, ready: c_int) -> ! {
    let mut argv: Vec<*const c_char> = run.arguments.iter().map(|text| text.as_ptr()).collect();
    argv.push(null());
    let environment = [
        c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".as_ptr(),
        c"TERM=xterm".as_ptr(),
        null(),
    ];
    let join_cgroups = || {
        for hierarchy in run.cgroups.iter().filter(|hierarchy| !hierarchy.unified) {
            write_to(&hierarchy.tasks, &[b"0"]);
        }
    };
    // SAFETY: this process has one thread and every pointer is a C string.
    unsafe {
        libc::setsid();
        libc::umask(0);
        if !run.overlap {
            join_cgroups();
        }
        must(mount(c"", c"/", c"", MS_REC | MS_SLAVE, c""));
        must(mount(&run.rootfs, &run.rootfs, c"", MS_BIND | MS_REC, c""));
        must(libc::chdir(run.rootfs.as_ptr()));
        mounts(if run.overlap { &[] } else { &run.cgroups });
        devices();
        if !run.overlap {
            loopback_up();
        } else {
            // Whatever needs no cgroup comes before the wait.
            loopback_up();
            let mut byte = 0_u8;
            must(libc::read(ready, (&raw mut byte).cast(), 1) as i64);
            join_cgroups();
            mount_cgroups(&run.cgroups);
        }
        must(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()));
        must(libc::umount2(c".".as_ptr(), MNT_DETACH));
        must(libc::chdir(c"/".as_ptr()));
        hide_paths();
        must(mount(c"", c"/", c"", MS_BIND | MS_REMOUNT | MS_RDONLY, c""));
        must(libc::sethostname(c"runc".as_ptr(), 4));
        libc::umask(0o022);
        drop_privileges();
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        libc::execvpe(run.program.as_ptr(), argv.as_ptr(), environment.as_ptr());
    }
    die("exec")
}

fn run_once(run: &Run) -> c_int {
    let mut ready = [-1; 2];
    let flags = libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNS;
    let mut later = run.cgroups.as_slice();
    // SAFETY: the structures are plain data; the child shares no memory with us.
    unsafe {
        let mut arguments: libc::clone_args = std::mem::zeroed();
        arguments.flags = flags as u64;
        arguments.exit_signal = libc::SIGCHLD as u64;
        let mut unified = -1;
        if let Some(first) = run.cgroups.first().filter(|first| first.unified) {
            make_cgroup(first);
            later = &later[1..];
            let open = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
            unified = must(libc::open(first.folder.as_ptr(), open)) as c_int;
            // The kernel's CLONE_INTO_CGROUP, wider than libc's c_int constants.
            arguments.flags |= 0x2_0000_0000;
            arguments.cgroup = unified as u64;
        }
        if run.overlap {
            must(libc::pipe2(ready.as_mut_ptr(), libc::O_CLOEXEC));
        } else {
            later.iter().for_each(make_cgroup);
        }
        let pid =
            must(libc::syscall(libc::SYS_clone3, &mut arguments, size_of::<libc::clone_args>()))
                as c_int;
        if pid == 0 {
            child(run, ready[0]);
        }
        if run.overlap {
            later.iter().for_each(make_cgroup);
            must(libc::write(ready[1], c"1".as_ptr().cast(), 1) as i64);
            libc::close(ready[0]);
            libc::close(ready[1]);
        }
        let mut status = 0;
        must(libc::waitpid(pid, &mut status, 0));
        if unified >= 0 {
            libc::close(unified);
        }
        for hierarchy in &run.cgroups {
            must(libc::rmdir(hierarchy.folder.as_ptr()));
        }
        if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        }
    }
}

fn usage() -> ! {
    eprintln!(
        "usage: limit BUNDLE [--cgroups] [--overlap] [--repeat N [--paced]] [-- PROGRAM [ARG...]]"
    );
    std::process::exit(2)
}

// Rust's own main would ignore SIGPIPE, which the container would inherit.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the C library passes argc valid strings.
    let mut words = (1..argc as usize).map(|index| unsafe { CStr::from_ptr(*argv.add(index)) });
    let (mut bundle, mut cgroups, mut overlap) = (None, false, false);
    let (mut repeat, mut paced) = (None, false);
    let mut arguments: Vec<CString> = Vec::new();
    while let Some(word) = words.next() {
        match word.to_str() {
            Ok("--cgroups") => cgroups = true,
            Ok("--overlap") => overlap = true,
            Ok("--paced") => paced = true,
            Ok("--repeat") => {
                let count = words.next().and_then(|word| word.to_str().ok()?.parse::<u64>().ok());
                repeat = Some(count.unwrap_or_else(|| usage()));
            }
            Ok("--") => arguments = words.by_ref().map(CStr::to_owned).collect(),
            Ok(text) if !text.starts_with('-') && bundle.is_none() => bundle = Some(text),
            _ => usage(),
        }
    }
    let Some(bundle) = bundle else { usage() };
    if arguments.is_empty() {
        arguments.push(c"/bin/true".into());
    }
    let run = Run {
        rootfs: join(&[bundle, "rootfs"]),
        program: arguments[0].clone(),
        arguments,
        cgroups: if cgroups { hierarchies() } else { Vec::new() },
        overlap: overlap && cgroups,
    };
    let Some(repeat) = repeat else { return run_once(&run) };
    let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
    for _ in 0..repeat {
        if paced && !matches!(input.read(&mut [0]), Ok(1)) {
            break;
        }
        let start = std::time::Instant::now();
        let code = run_once(&run);
        let took = start.elapsed().as_nanos();
        if code != 0 || writeln!(output, "{took}").is_err() || output.flush().is_err() {
            return if code == 0 { 1 } else { code };
        }
    }
    0
}
