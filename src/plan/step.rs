//! What the child does, one typed step after the other.
//!
//! A step holds the kernel's own numbers and ready C strings: the child that
//! walks it parses nothing and chooses nothing. Paths inside the container
//! are kept as the config wrote them and resolved below the root's descriptor
//! when their step runs.

use std::ffi::CString;

use serde::{Deserialize, Serialize};

use super::seccomp::Filter;
use crate::sys::clone::Strings;
use crate::sys::mount::MountAttr;
use crate::sys::privilege::CapabilitySets;
use crate::sys::pty::Size;
use crate::sys::sched::Scheduler;

/// One step, and the line of the config that asked for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Planned {
    /// What to do.
    pub step: Step,
    /// A JSON path such as `$.mounts[2]`; none where the runtime itself asks.
    #[serde(skip)]
    pub asked_by: Option<String>,
}

/// A new instance of a file system and where it goes.
#[derive(Debug, Serialize, Deserialize)]
pub struct FilesystemMount {
    /// `proc`, `tmpfs`, …
    pub fstype: CString,
    /// Shown in /proc/mounts; a device for some types.
    pub source: CString,
    /// Where, inside the root.
    pub target: CString,
    /// A symbolic link on the way there is refused.
    pub direct: bool,
    /// Parameters of the superblock: a flag, or a key and its value.
    pub parameters: Vec<(CString, Option<CString>)>,
    /// Attributes of the mount.
    pub attributes: MountAttr,
    /// Attributes of all mounts below as well; they follow `attributes`.
    pub recursive: Option<MountAttr>,
    /// Fill the tmpfs with what the root has at the target.
    pub copy_up: bool,
    /// Its permission bits are those of the folder at the target, where there is one.
    pub mode_of_target: bool,
}

/// A part of the host's tree shown inside the root.
#[derive(Debug, Serialize, Deserialize)]
pub struct BindMount {
    /// Absolute path on the host.
    pub source: CString,
    /// Which of the opened sources it is, where one was opened before.
    pub opened: Option<usize>,
    /// Where, inside the root.
    pub target: CString,
    /// The source must be of a procfs: it stands for the container's own.
    pub procfs: bool,
    /// With the mounts below it.
    pub with_submounts: bool,
    /// No mount of it is a peer of the host's: its end must not be that of the host's mounts below.
    pub slave: bool,
    /// Attributes of the mount.
    pub attributes: MountAttr,
    /// Attributes of the source that it does not have, unless a user namespace locks them to it.
    pub not_asked: u64,
    /// Attributes of all mounts below as well.
    pub recursive: Option<MountAttr>,
}

/// A device node inside the root.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Where, inside the root.
    pub path: CString,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub kind: u32,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// One that is there already stays as it is.
    pub keep: bool,
    /// Show the host's node instead of making one: mknod(2) is refused in a user namespace.
    pub bind: bool,
}

/// How an init that is set up is told to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartSignal {
    /// By the process that created it: `run` at once, `exec` when a filter's listener is handed on.
    Parent,
    /// By whoever connects to the container's start socket: `create`, then `start`.
    Socket,
}

/// Moments at which hooks run while the child waits or helps (config.md#posix-platform-hooks).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookPoint {
    /// `prestart` and `createRuntime`: in the runtime's namespaces.
    CreateRuntime,
    /// `createContainer`: in the container's namespaces, before pivot_root(2).
    CreateContainer,
    /// `startContainer`: in the container, before the program.
    StartContainer,
}

/// One thing that the child does.
#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the arguments of the calls that the variants name")]
pub enum Step {
    /// Make a time namespace and enter it, its offsets set. In a new user namespace, which alone gives
    /// an ordinary user the privilege; and while the process is open to it, as the file is.
    TimeNamespace { offsets: CString },
    /// Wait until the parent has written the id maps: before, every id is the overflow id.
    AwaitIdMaps,
    /// Become user 0 of the new user namespace, which owns what is made from here on.
    BecomeRoot,
    /// Open a namespace file while the host's paths are in sight.
    OpenNamespace { slot: usize, kind: Namespace, path: CString },
    /// Join what was opened.
    JoinNamespace { slot: usize, kind: Namespace },
    /// Join the namespaces of a running container's init, all at once.
    JoinContainer { namespaces: i32 },
    /// Lead a session of one's own.
    NewSession,
    /// Leave the caller's session keyring for the container's (session-keyring(7)); what more is
    /// permitted to others, where it is new.
    SessionKeyring { name: CString, permissions: Option<u32>, label: Option<CString> },
    /// Written before the root changes: the file is the host's /proc.
    /// For an ordinary user (`by_user`) as with `TimeOffsets`.
    OomScoreAdj { value: i32, by_user: bool },
    /// sethostname(2).
    Hostname(CString),
    /// setdomainname(2).
    Domainname(CString),
    /// Set `lo` up.
    LoopbackUp,
    /// Written through the host's /proc: its answers are those of the writer's namespaces, and no
    /// rootfs can have put another file there (CVE-2025-52881).
    Sysctl { path: CString, value: CString },
    /// No mount made here reaches the host: `MS_SLAVE` or `MS_PRIVATE` for all there is.
    DetachPropagation(u64),
    /// No mount made on the mount that has this path reaches the host; on others it may.
    DetachMountOf { path: CString },
    /// What confines this process from its next execve(2) on. Written through the host's /proc:
    /// a file that a container put there would take it and do nothing (CVE-2019-16884).
    ExecLabel { module: SecurityModule, label: CString },
    /// Bind the rootfs onto itself: pivot_root(2) wants a mount point.
    AttachRootfs { path: CString },
    /// Mount the rootfs at a place of its own: the mount namespace is the host's, of which nothing
    /// may be covered.
    MountRootfs { path: CString, at: CString, propagation: u64 },
    /// Open what is to be bound later, while the host's folders are open to this process.
    OpenSource { path: CString, with_submounts: bool },
    /// Take from the parent what is to be bound with other ids.
    AwaitSources { count: usize },
    /// Mount a new file system.
    Mount(FilesystemMount),
    /// Show a part of the host.
    Bind(BindMount),
    /// Change what is mounted there.
    Remount {
        target: CString,
        /// Parameters of the superblock to change: a flag, or a key and its value.
        parameters: Vec<(CString, Option<CString>)>,
        attributes: MountAttr,
        recursive: Option<MountAttr>,
    },
    /// Make a device node.
    Device(DeviceNode),
    /// A symbolic link; what is there already stays, unless it is to be replaced.
    Link { target: CString, path: CString, replace: bool },
    /// A folder, unless it is there.
    MakeDir(CString),
    /// Label the root of what is mounted there, for a file system that takes no such option.
    Relabel { target: CString, label: CString },
    /// The label of the folder that masks others.
    LabelMasks(CString),
    /// Wait until the parent has made the cgroup and set its limits, then move into it. The child
    /// does this itself: for a process of one thread that writes
    /// `0`, the kernel need not stop all forks of the host, which costs it milliseconds.
    JoinCgroup,
    /// unshare(2), for what must not be new before the cgroup or a user namespace is joined.
    Unshare { namespaces: i32 },
    /// Clock offsets of the time namespace that children will be born in. For an ordinary user
    /// (`by_user`) the process is open to that user meanwhile, else their file would be root's.
    TimeOffsets { offsets: String, by_user: bool },
    /// Go on in a child that is born with these: pid and time namespaces take in none but
    /// children. Its parent is the one that this process has, which ends.
    CloneAgain { namespaces: i32 },
    /// Wait until the parent has moved the host's network devices in.
    AwaitNetDevices,
    /// Let hooks run.
    Hooks(HookPoint),
    /// Hide a path; skipped where it does not exist.
    Mask(CString),
    /// Make a path read-only; skipped where it does not exist.
    ReadOnly(CString),
    /// A terminal of the container's own on descriptors 0, 1 and 2 and on /dev/console.
    Terminal { size: Option<Size>, owner: Option<u32>, console: bool, plain_lines: bool },
    /// The caller's descriptors on 0, 1 and 2.
    Stdio { owner: Option<u32> },
    /// Make the rootfs `/` and let go of the host's tree.
    Pivot,
    /// Make the rootfs `/` and leave the host's tree below: for a root that cannot be pivoted away
    /// from.
    MoveRoot,
    /// Make the rootfs `/` without a mount namespace.
    Chroot,
    /// Attributes or propagation of the new `/`, or of all mounts below as well.
    RootAttributes { attributes: MountAttr, recursive: bool },
    /// prlimit(2).
    Rlimit { resource: i32, soft: u64, hard: u64 },
    /// sched_setattr(2).
    Scheduler(Scheduler),
    /// ioprio_set(2).
    IoPriority { class: u16, level: u16 },
    /// sched_setaffinity(2): processors as bits; none for all that the cgroup has.
    Affinity(Option<Vec<u64>>),
    /// set_mempolicy(2): nodes as bits.
    MemoryPolicy { mode: i32, flags: i32, nodes: Vec<u64> },
    /// personality(2).
    Personality(u32),
    /// Before the user changes, for the directory may be closed to it; never through a magic link
    /// (CVE-2024-21626).
    Chdir(CString),
    /// Take these out of the bounding set.
    DropBounding(u64),
    /// setgroups(2), setresgid(2), setresuid(2), keeping capabilities.
    User { uid: u32, gid: u32, groups: Option<Vec<u32>> },
    /// capset(2), then the ambient set.
    Capabilities { sets: CapabilitySets, ambient: u64 },
    /// Set HOME to what the container's /etc/passwd says of the user, read with the rights of the
    /// program: what the image has there may be anything.
    Home { uid: u32 },
    /// No exec gains privileges.
    NoNewPrivileges,
    /// The permission bits that new files do not get.
    Umask(u32),
    /// Put this process and all that it becomes under a filter of system calls.
    LoadFilter(Filter),
    /// Every signal at its default and none blocked: whoever called may ignore or block some, and
    /// ignored signals stay so over an exec (signal(7)).
    ResetSignals,
    /// Find the program along the container's PATH, as the container's user.
    FindProgram { name: CString, candidates: Vec<CString> },
    /// Everything past the standard three closes on exec, but for `keep` after them.
    CloseDescriptors { keep: i32 },
    /// Say that the container is created and wait.
    AwaitStart(StartSignal),
    /// Say that all is set up, and go on: whoever runs a further process has nothing left to do.
    Ready,
    /// Fail: the container was created with nothing to run in it.
    NoProgram,
    /// execve(2) of what was found.
    Exec { argv: Strings, envp: Strings },
}

/// A security module of the kernel (LSM) that can be told what to make of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityModule {
    /// By the name of a profile.
    AppArmor,
    /// By a label.
    SeLinux,
}

impl SecurityModule {
    /// As it calls itself.
    pub const fn name(self) -> &'static str {
        match self {
            SecurityModule::AppArmor => "AppArmor",
            SecurityModule::SeLinux => "SELinux",
        }
    }
}

/// A kind of namespace (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in namespaces(7)")]
pub enum Namespace {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

impl Namespace {
    /// `CLONE_NEW…`
    pub const fn flag(self) -> i32 {
        match self {
            Namespace::User => libc::CLONE_NEWUSER,
            Namespace::Mount => libc::CLONE_NEWNS,
            Namespace::Pid => libc::CLONE_NEWPID,
            Namespace::Network => libc::CLONE_NEWNET,
            Namespace::Ipc => libc::CLONE_NEWIPC,
            Namespace::Uts => libc::CLONE_NEWUTS,
            Namespace::Cgroup => libc::CLONE_NEWCGROUP,
            Namespace::Time => 0x80,
        }
    }

    /// The specification's word.
    pub const fn name(self) -> &'static str {
        match self {
            Namespace::User => "user",
            Namespace::Mount => "mount",
            Namespace::Pid => "pid",
            Namespace::Network => "network",
            Namespace::Ipc => "ipc",
            Namespace::Uts => "uts",
            Namespace::Cgroup => "cgroup",
            Namespace::Time => "time",
        }
    }

    /// All of them.
    pub const ALL: [Namespace; 8] = [
        Namespace::User,
        Namespace::Mount,
        Namespace::Pid,
        Namespace::Network,
        Namespace::Ipc,
        Namespace::Uts,
        Namespace::Cgroup,
        Namespace::Time,
    ];
}

/// Whether a step lets the parent act, and what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// For the id maps.
    IdMaps,
    /// For the sources of id-mapped mounts.
    Sources,
    /// For the cgroup.
    Cgroup,
    /// For network devices.
    NetDevices,
    /// For hooks.
    Hooks(HookPoint),
    /// For the word to start.
    Start(StartSignal),
}

impl Step {
    /// What the parent owes the child at this step, if anything.
    pub fn wait(&self) -> Option<Wait> {
        match self {
            Step::AwaitIdMaps => Some(Wait::IdMaps),
            Step::AwaitSources { .. } => Some(Wait::Sources),
            Step::JoinCgroup => Some(Wait::Cgroup),
            Step::AwaitNetDevices => Some(Wait::NetDevices),
            Step::Hooks(point) => Some(Wait::Hooks(*point)),
            Step::AwaitStart(signal) => Some(Wait::Start(*signal)),
            _ => None,
        }
    }
}
