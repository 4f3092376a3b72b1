//! What would help, by step and errno.

use nix::errno::Errno;

use crate::error::{Error, PROCESS_LIMIT};
use crate::plan::Plan;
use crate::plan::step::{Namespace, SecurityModule, Step};

pub(super) const NO_SUCH_PROCESSOR: &str =
    "at least one of the processors must be online, and in the cpuset of the cgroup";

/// Adds what would help against a failed step, where that is known.
pub(super) fn for_step(error: Error, step: &Step, errno: Errno) -> Error {
    let hint = match (step, errno) {
        (Step::MemoryPolicy { .. }, Errno::ENOSYS) => "this kernel is built without NUMA",
        (Step::MemoryPolicy { .. }, Errno::EINVAL) => {
            "the nodes must be online and in cpuset.mems, and the mode one of this kernel's"
        }
        (_, Errno::ENOSYS) => "this needs linux 5.12 or newer, and no filter that hides the call",
        (Step::SessionKeyring { .. }, Errno::EDQUOT) => {
            "the user has no keys left: raise a limit in /proc/sys/kernel/keys, or give \
             --no-new-keyring"
        }
        (Step::MountRootfs { .. }, Errno::EPERM) => {
            "this needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace here: add \
             {\"type\": \"mount\"} to $.linux.namespaces"
        }
        (Step::AttachRootfs { .. } | Step::MountRootfs { .. }, Errno::ENOENT) => {
            "unpack an image's file system there, or point $.root.path at one"
        }
        (Step::AttachRootfs { .. } | Step::MountRootfs { .. }, Errno::ENOTDIR) => {
            "the rootfs must be a folder"
        }
        (Step::Bind(_) | Step::OpenSource { .. }, Errno::ENOENT) => {
            "the source must exist on the host"
        }
        (Step::OpenSource { with_submounts: false, .. }, Errno::EINVAL) => {
            "in a user namespace, what has mounts below it is bound with them: use rbind"
        }
        (Step::Bind(_) | Step::Mount(_), Errno::ENOTDIR) => {
            "a folder can be mounted on a folder only, a file on a file"
        }
        (Step::Mount(_), Errno::ENODEV) => "this kernel does not have that file system",
        (Step::Mount(_), Errno::EROFS) => "make the folder in the rootfs beforehand",
        (Step::Mount(mount), Errno::ELOOP) if mount.direct => {
            "it must be mounted on ordinary directory: take the symbolic link out of the rootfs"
        }
        (Step::Mount(_) | Step::Bind(_) | Step::MakeDir(_), Errno::ELOOP) => {
            "symbolic links in the rootfs lead in a circle, or to a magic link, which is not followed"
        }
        (Step::Mount(mount), Errno::EPERM) if mount.fstype.as_c_str() == c"sysfs" => {
            "sysfs needs a network namespace of the container's own: else bind the host's /sys"
        }
        (Step::Mount(mount), Errno::EPERM) if mount.fstype.as_c_str() == c"proc" => {
            "proc needs a pid namespace of the container's own, and shows no more than the one here does"
        }
        (Step::Mount(mount), Errno::EPERM) if mount.fstype.as_c_str() == c"mqueue" => {
            "mqueue needs an ipc namespace of the container's own"
        }
        // What was mounted before a user namespace came is locked in it (mount_namespaces(7)).
        (Step::Bind(_) | Step::Remount { .. }, Errno::EPERM)
            if is_call(&error, "mount_setattr") =>
        {
            "in a user namespace ro, nosuid, nodev, noexec and the access time of a mount of the \
             host's stay as they are: drop the option that changes one"
        }
        (Step::Bind(_) | Step::OpenSource { .. }, Errno::EINVAL)
            if is_call(&error, "open_tree") =>
        {
            "in a user namespace nothing can be bound without the mounts below it: use rbind"
        }
        (Step::Mount(_) | Step::Remount { .. }, Errno::EINVAL) => {
            "check the mount's options: one is not known here"
        }
        (Step::Device(_), Errno::EEXIST) => "the rootfs has something else there",
        (Step::Device(device), Errno::ENOENT | Errno::ENODEV) if device.bind => {
            "making devices takes the host's root: others get the host's own node of the same path"
        }
        (Step::Device(_), Errno::EPERM) => "making devices needs CAP_MKNOD",
        (Step::Rlimit { .. }, Errno::EPERM) => {
            "raising a hard limit needs CAP_SYS_RESOURCE: ask for at most the present one"
        }
        (Step::Scheduler(_), Errno::EPERM) => {
            "this needs CAP_SYS_NICE, for SCHED_DEADLINE all processors, \
             and for real-time time in the cgroup's cpu.rt_runtime_us"
        }
        (Step::Scheduler(_), Errno::EINVAL) => {
            "SCHED_FIFO and SCHED_RR need a priority, SCHED_DEADLINE a runtime of at most its \
             deadline and that of at most its period; no kernel has SCHED_ISO"
        }
        (Step::Scheduler(_), Errno::EBUSY) => {
            "other deadlines leave too little of the processors' time"
        }
        (Step::IoPriority { .. }, Errno::EPERM) => {
            "IOPRIO_CLASS_RT needs CAP_SYS_ADMIN or CAP_SYS_NICE outside of any user namespace"
        }
        (Step::Affinity(_), Errno::EINVAL) => NO_SUCH_PROCESSOR,
        (Step::ExecLabel { module: SecurityModule::AppArmor, .. }, Errno::ENOENT) => {
            "no such profile is loaded: apparmor_parser(8) loads one"
        }
        (Step::ExecLabel { module: SecurityModule::SeLinux, .. }, Errno::EINVAL) => {
            "the policy that is loaded does not know that label"
        }
        (Step::ExecLabel { .. }, Errno::EACCES | Errno::EPERM) => {
            "what confines this process itself does not let it change to that"
        }
        (Step::OomScoreAdj { .. }, Errno::EACCES) => {
            "lowering it needs CAP_SYS_RESOURCE: ask for at least the present value"
        }
        (Step::Sysctl { .. }, Errno::ENOENT) => "this kernel does not have that parameter",
        (Step::LoadFilter(_), Errno::EACCES) => {
            "set $.process.noNewPrivileges: else it takes CAP_SYS_ADMIN in the user namespace"
        }
        (Step::LoadFilter(_), Errno::EBUSY) => {
            "this process is under a filter with a listener already, and there can be but one"
        }
        (Step::LoadFilter(_), Errno::ENOMEM) => {
            "this process is under as many filters already as the kernel allows"
        }
        (Step::LoadFilter(_), Errno::EINVAL) => {
            "this kernel lacks something of it: leave $.linux.seccomp.flags out"
        }
        (Step::Chdir(_), Errno::ENOENT) => "the folder must exist in the container",
        (Step::Chdir(_), Errno::ENOTDIR) => "the working directory must be a folder",
        (Step::Capabilities { .. } | Step::DropBounding(_), Errno::EPERM) => {
            "the sets must be within those of the caller, and setting them needs CAP_SETPCAP"
        }
        (Step::FindProgram { name, .. }, Errno::ENOENT) if name.to_bytes().contains(&b'/') => {
            "the rootfs does not have that file"
        }
        (Step::FindProgram { .. }, Errno::ENOENT) => {
            "no folder in the container's PATH has it: check $.process.env and the rootfs"
        }
        (Step::FindProgram { .. }, Errno::EACCES) => "it must be a file that its user may execute",
        (Step::Exec { .. }, Errno::ENOENT) => {
            "the file is there, so its interpreter or dynamic loader is not"
        }
        (Step::Exec { .. }, Errno::ENOEXEC) => {
            "it is no program of this machine's architecture, and no script with #! in its first line"
        }
        (Step::Exec { .. }, Errno::E2BIG) => "arguments and environment are too long together",
        (Step::User { .. }, Errno::EINVAL) => {
            "the ids must be mapped in the container's user namespace"
        }
        (Step::JoinNamespace { kind: Namespace::User, .. }, Errno::EINVAL) => {
            "the path is a namespace of another kind, or the one that this process is in"
        }
        (Step::JoinNamespace { .. }, Errno::EINVAL) => "the path is a namespace of another kind",
        (
            Step::JoinNamespace { .. } | Step::Unshare { .. } | Step::CloneAgain { .. },
            Errno::EPERM,
        ) => "this needs CAP_SYS_ADMIN in the user namespace that owns it",
        (Step::Pivot, Errno::EINVAL) => {
            "the host's own root cannot be pivoted away from, as in an initramfs"
        }
        _ => return error,
    };
    error.hint(hint)
}

fn is_call(error: &Error, name: &str) -> bool {
    error.system_call().is_some_and(|call| call.name == name)
}

/// A clone that failed before there was a child.
pub(super) fn clone_failed(plan: &Plan, errno: Errno) -> Error {
    let namespaces = crate::plan::namespace_names(plan.born.namespaces);
    let what = format!("with new namespaces ({namespaces})");
    let error = Error::call("clone3", what, errno).asked_by("$.linux.namespaces");
    let new_user = plan.born.namespaces & libc::CLONE_NEWUSER != 0;
    if let (true, Some(why)) = (new_user, user_namespaces_forbidden()) {
        return error.hint(why);
    }
    match errno {
        Errno::EPERM if new_user => {
            error.hint("no user namespace may be made here: by a seccomp filter, or in a chroot")
        }
        Errno::EPERM => error.hint("run as root, or add a user namespace"),
        Errno::ENOSPC => error.hint("a limit in /proc/sys/user/max_*_namespaces is reached"),
        Errno::EAGAIN => error.hint(PROCESS_LIMIT),
        Errno::EINVAL => error.hint("this kernel lacks one of these namespaces"),
        Errno::ENOSYS => error.hint("this needs linux 5.12 or newer"),
        _ => error,
    }
}

/// A container whose namespaces cannot be entered.
pub(super) fn not_entered(plan: &Plan, errno: Errno) -> Error {
    let namespaces = crate::plan::namespace_names(plan.born.enter_container);
    let error =
        Error::call("setns", format!("into the container's namespaces ({namespaces})"), errno);
    match errno {
        // Until it runs its program, its init is this runtime, which is hidden from all users.
        Errno::EPERM => {
            error.hint("an ordinary user can enter a container only once it is started")
        }
        _ => error,
    }
}

/// The host's setting that keeps ordinary users from user namespaces, if one does.
pub(super) fn user_namespaces_forbidden() -> Option<String> {
    // By the kernel, by Debian's patch to it, by Ubuntu's AppArmor.
    const SETTINGS: [(&str, &str); 3] = [
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ];
    let (path, value) = SETTINGS.into_iter().find(|(path, forbids)| {
        let value = std::fs::read_to_string(format!("/proc/sys/{path}"));
        value.is_ok_and(|value| value.trim() == *forbids)
    })?;
    let name = path.replace('/', ".");
    Some(format!("this host's {name} = {value} forbids ordinary users new user namespaces"))
}
