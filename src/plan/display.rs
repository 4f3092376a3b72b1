//! The plan as it prints itself: one step a line, in the words of mount(8) and friends.

use std::ffi::{CStr, CString};
use std::fmt::{self, Display, Formatter};

use super::scheduling::shown_mask;
use super::step::{
    BindMount, DeviceNode, FilesystemMount, HookPoint, SecurityModule, StartSignal, Step,
};
use super::{Plan, shown_list};
use crate::resctrl::ResctrlPlan;
use crate::sys::mount::{MountAttr, attr};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let resctrl = self.resctrl.iter().flat_map(ResctrlPlan::lines);
        for line in self.cgroup.lines().into_iter().chain(resctrl) {
            writeln!(f, "parent: {line}")?;
        }
        if let Some(path) = &self.born.join_pid {
            writeln!(f, "parent: join pid namespace {}", Quoted(path))?;
        }
        if let Some(offsets) = &self.born.time_offsets {
            writeln!(f, "parent: unshare time namespace, offsets {:?}", offsets.trim_end())?;
        }
        if let Some(processors) = &self.born.affinity {
            let list = shown_list(processors);
            writeln!(f, "parent: run on processors {list} (affinity: {})", shown_mask(processors))?;
        }
        if self.born.enter_container != 0 {
            let namespaces = namespaces(self.born.enter_container);
            writeln!(f, "parent: join the container's namespaces ({namespaces})")?;
        }
        if self.born.namespaces != 0 {
            writeln!(f, "parent: clone with new {}", namespaces(self.born.namespaces))?;
        }
        if let Some(maps) = &self.born.id_maps {
            for (name, map) in [("uid", &maps.uid), ("gid", &maps.gid)] {
                let helper =
                    if map.by_helper { format!(" with new{name}map") } else { String::new() };
                writeln!(f, "parent: map {name}s \"{map}\"{helper}")?;
            }
        }
        if let Some(value) = self.born.oom_score_adj {
            writeln!(f, "parent: set oom_score_adj to {value}")?;
        }
        if let Some(listener) = &self.listener {
            writeln!(f, "parent: send the filter's listener to {:?}", listener.path)?;
        }
        for tree in &self.mapped {
            writeln!(f, "parent: {tree}")?;
        }
        for device in &self.net_devices {
            writeln!(f, "parent: {device}")?;
        }
        self.steps.iter().try_for_each(|planned| writeln!(f, "{}", planned.step))
    }
}

/// A C string as it would be quoted in a shell transcript.
pub(crate) struct Quoted<'a>(pub(crate) &'a CStr);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.to_string_lossy())
    }
}

struct Attributes<'a>(&'a MountAttr, bool);

impl Display for Attributes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const WORDS: [(u64, &str, &str); 6] = [
            (attr::RDONLY, "ro", "rw"),
            (attr::NOSUID, "nosuid", "suid"),
            (attr::NODEV, "nodev", "dev"),
            (attr::NOEXEC, "noexec", "exec"),
            (attr::NODIRATIME, "nodiratime", "diratime"),
            (attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
        ];
        let Attributes(attributes, recursive) = self;
        let mut words = Vec::new();
        for (bit, set, clear) in WORDS {
            if attributes.set & bit != 0 {
                words.push(set);
            } else if attributes.clear & bit != 0 {
                words.push(clear);
            }
        }
        if attributes.clear & attr::ATIME_MASK != 0 {
            words.push(match attributes.set & attr::ATIME_MASK {
                attr::NOATIME => "noatime",
                attr::STRICTATIME => "strictatime",
                _ => "relatime",
            });
        }
        words.extend(propagation_word(attributes.propagation));
        let prefix = if *recursive { "r" } else { "" };
        for (index, word) in words.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{prefix}{word}")?;
        }
        Ok(())
    }
}

fn propagation_word(propagation: u64) -> Option<&'static str> {
    match propagation {
        libc::MS_SHARED => Some("shared"),
        libc::MS_SLAVE => Some("slave"),
        libc::MS_PRIVATE => Some("private"),
        libc::MS_UNBINDABLE => Some("unbindable"),
        _ => None,
    }
}

fn options(f: &mut Formatter<'_>, words: &[String]) -> fmt::Result {
    let words: Vec<&str> =
        words.iter().filter(|word| !word.is_empty()).map(String::as_str).collect();
    if words.is_empty() { Ok(()) } else { write!(f, " ({})", words.join(",")) }
}

fn attribute_words(attributes: &MountAttr, recursive: Option<&MountAttr>) -> Vec<String> {
    let mut words = vec![Attributes(attributes, false).to_string()];
    words.extend(recursive.map(|recursive| Attributes(recursive, true).to_string()));
    words
}

fn parameter_words(parameters: &[(CString, Option<CString>)]) -> impl Iterator<Item = String> {
    parameters.iter().filter_map(|(key, value)| {
        let key = key.to_string_lossy();
        match value {
            Some(value) => Some(format!("{key}={}", value.to_string_lossy())),
            // The superblock's own read-only bit repeats the mount's.
            None if key == "ro" || key == "rw" => None,
            None => Some(key.into_owned()),
        }
    })
}

impl Display for FilesystemMount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "mount {} on {}", Quoted(&self.fstype), Quoted(&self.target))?;
        let mut words = attribute_words(&self.attributes, self.recursive.as_ref());
        words.extend(parameter_words(&self.parameters));
        if self.copy_up {
            words.push("tmpcopyup".to_owned());
        }
        options(f, &words)
    }
}

impl Display for BindMount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verb = if self.with_submounts { "rbind" } else { "bind" };
        write!(f, "{verb} {} on {}", Quoted(&self.source), Quoted(&self.target))?;
        let slave = self.slave.then(|| "rslave".to_owned());
        let words = attribute_words(&self.attributes, self.recursive.as_ref());
        options(f, &slave.into_iter().chain(words).collect::<Vec<_>>())?;
        if self.not_asked != 0 { f.write_str(", and no others of its source's") } else { Ok(()) }
    }
}

impl Display for DeviceNode {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let path = Quoted(&self.path);
        if self.bind {
            return write!(f, "show the host's device {path}");
        }
        let kind = match self.kind {
            libc::S_IFBLK => 'b',
            libc::S_IFIFO => 'p',
            _ => 'c',
        };
        let DeviceNode { major, minor, mode, uid, gid, .. } = self;
        write!(f, "make device {path} ({kind} {major}:{minor}, mode {mode:04o}")?;
        if (*uid, *gid) != (0, 0) {
            write!(f, ", owner {uid}:{gid}")?;
        }
        f.write_str(")")
    }
}

impl Display for HookPoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HookPoint::CreateRuntime => "createRuntime",
            HookPoint::CreateContainer => "createContainer",
            HookPoint::StartContainer => "startContainer",
        })
    }
}

/// Names of namespaces in a set of `CLONE_NEW…` bits.
pub(crate) fn namespaces(flags: i32) -> String {
    let names: Vec<&str> = super::step::Namespace::ALL
        .into_iter()
        .filter(|kind| flags & kind.flag() != 0)
        .map(super::step::Namespace::name)
        .collect();
    names.join(", ")
}

/// Capabilities in a set of bits, by name.
pub(super) fn capabilities(bits: u64) -> String {
    let mut known: Vec<caps::Capability> = caps::all().into_iter().collect();
    known.sort_by_key(caps::Capability::index);
    let names: Vec<String> = known
        .into_iter()
        .filter(|capability| bits & capability.bitmask() != 0)
        .map(|capability| capability.to_string())
        .collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::TimeNamespace { offsets } => {
                write!(
                    f,
                    "enter a new time namespace, offsets {:?}",
                    offsets.to_string_lossy().trim_end()
                )
            }
            Step::AwaitIdMaps => f.write_str("await id maps"),
            Step::BecomeRoot => f.write_str("become user 0 of the user namespace"),
            Step::OpenNamespace { kind, path, .. } => {
                write!(f, "open {} namespace {}", kind.name(), Quoted(path))
            }
            Step::JoinNamespace { kind, .. } => write!(f, "join {} namespace", kind.name()),
            Step::JoinContainer { namespaces: flags } => {
                write!(f, "join the container's namespaces ({})", namespaces(*flags))
            }
            Step::SessionKeyring { name, label, .. } => {
                write!(f, "join session keyring {}", Quoted(name))?;
                label.iter().try_for_each(|label| write!(f, " labelled {}", Quoted(label)))
            }
            Step::NewSession => f.write_str("start a session"),
            Step::OomScoreAdj { value, .. } => write!(f, "set oom_score_adj to {value}"),
            Step::Hostname(name) => write!(f, "set hostname {}", Quoted(name)),
            Step::Domainname(name) => write!(f, "set domainname {}", Quoted(name)),
            Step::LoopbackUp => f.write_str("set loopback device up"),
            Step::Sysctl { path, value } => {
                write!(f, "write {} to {}", Quoted(value), Quoted(path))
            }
            Step::DetachPropagation(flag) => {
                let word = propagation_word(*flag).unwrap_or_default();
                write!(f, "keep mounts from the host (r{word})")
            }
            Step::DetachMountOf { path } => {
                write!(f, "keep mounts beside {} from the host (slave)", Quoted(path))
            }
            Step::ExecLabel { module: SecurityModule::AppArmor, label } => {
                write!(f, "confine the program by AppArmor profile {}", Quoted(label))
            }
            Step::ExecLabel { module: SecurityModule::SeLinux, label } => {
                write!(f, "confine the program by SELinux label {}", Quoted(label))
            }
            Step::Relabel { target, label } => {
                write!(f, "label {} {}", Quoted(target), Quoted(label))
            }
            Step::LabelMasks(label) => write!(f, "label masked folders {}", Quoted(label)),
            Step::OpenSource { path, .. } => write!(f, "open {}", Quoted(path)),
            Step::AwaitSources { count } => write!(f, "await {count} id-mapped sources"),
            Step::AttachRootfs { path } => write!(f, "attach rootfs {}", Quoted(path)),
            Step::MountRootfs { path, at, propagation } => {
                let word = propagation_word(*propagation).unwrap_or_default();
                write!(f, "mount rootfs {} on {} (r{word})", Quoted(path), Quoted(at))
            }
            Step::Mount(mount) => mount.fmt(f),
            Step::Bind(bind) => bind.fmt(f),
            Step::Remount { target, parameters, attributes, recursive } => {
                write!(f, "remount {}", Quoted(target))?;
                let mut words = attribute_words(attributes, recursive.as_ref());
                words.extend(parameter_words(parameters));
                options(f, &words)
            }
            Step::Device(device) => device.fmt(f),
            Step::Link { target, path, .. } => {
                write!(f, "link {} to {}", Quoted(path), Quoted(target))
            }
            Step::MakeDir(path) => write!(f, "make folder {} if missing", Quoted(path)),
            Step::JoinCgroup => f.write_str("await and join cgroup"),
            Step::Unshare { namespaces: flags } => {
                write!(f, "unshare {} namespace", namespaces(*flags))
            }
            Step::TimeOffsets { offsets, .. } => {
                write!(f, "set clock offsets {:?}", offsets.trim_end())
            }
            Step::CloneAgain { namespaces: 0 } => f.write_str("clone again"),
            Step::CloneAgain { namespaces: flags } => {
                write!(f, "clone again with new {}", namespaces(*flags))
            }
            Step::AwaitNetDevices => f.write_str("await network devices"),
            Step::Hooks(point) => write!(f, "run {point} hooks"),
            Step::Mask(path) => write!(f, "mask {}", Quoted(path)),
            Step::ReadOnly(path) => write!(f, "make {} read-only", Quoted(path)),
            Step::Terminal { size, console, plain_lines, .. } => {
                f.write_str("open a terminal")?;
                if let Some(size) = size {
                    write!(f, " of {} rows and {} columns", size.rows, size.columns)?;
                }
                f.write_str(if *plain_lines { ", with plain ends of lines" } else { "" })?;
                f.write_str(if *console { ", /dev/console too" } else { "" })
            }
            Step::Stdio { .. } => f.write_str("take the caller's standard streams"),
            Step::Pivot => f.write_str("pivot into the rootfs"),
            Step::MoveRoot => {
                f.write_str("move the rootfs onto /, and leave the host's tree there")
            }
            Step::Chroot => f.write_str("chroot into the rootfs"),
            Step::RootAttributes { attributes, recursive } => {
                write!(f, "set / {}", Attributes(attributes, *recursive))
            }
            other => other.fmt_process(f),
        }
    }
}

impl Step {
    /// The steps that concern the process alone.
    fn fmt_process(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::Rlimit { resource, soft, hard } => {
                let name = super::process::rlimit_name(*resource);
                write!(f, "limit {name} to {} (hard {})", Limit(*soft), Limit(*hard))
            }
            Step::Chdir(path) => write!(f, "change to {}", Quoted(path)),
            Step::DropBounding(bits) => {
                let kept = !bits & caps::all().iter().fold(0, |all, cap| all | cap.bitmask());
                write!(f, "drop bounding capabilities but {}", capabilities(kept))
            }
            Step::User { uid, gid, groups } => {
                write!(f, "become user {uid}, group {gid}")?;
                match groups {
                    Some(groups) if !groups.is_empty() => write!(f, ", groups {groups:?}"),
                    Some(_) => Ok(()),
                    None => f.write_str(", groups as they are"),
                }
            }
            Step::Capabilities { sets, ambient } => {
                write!(f, "set capabilities: effective {}", capabilities(sets.effective))?;
                write!(f, "; permitted {}", capabilities(sets.permitted))?;
                write!(f, "; inheritable {}", capabilities(sets.inheritable))?;
                write!(f, "; ambient {}", capabilities(*ambient))
            }
            Step::Home { uid } => write!(f, "look up HOME of user {uid} in \"/etc/passwd\""),
            Step::NoNewPrivileges => f.write_str("set no_new_privs"),
            Step::LoadFilter(filter) => filter.fmt(f),
            Step::ResetSignals => f.write_str("reset signals"),
            Step::Umask(mask) => write!(f, "set umask {mask:04o}"),
            Step::FindProgram { name, .. } => write!(f, "find program {}", Quoted(name)),
            Step::CloseDescriptors { keep: 0 } => f.write_str("close descriptors from 3 on exec"),
            Step::CloseDescriptors { keep } => {
                write!(f, "close descriptors from {} on exec", 3 + keep)
            }
            Step::AwaitStart(StartSignal::Parent) => f.write_str("await the word to go on"),
            Step::AwaitStart(StartSignal::Socket) => f.write_str("await start"),
            Step::Ready => f.write_str("say that all is set up"),
            Step::NoProgram => f.write_str("fail, for there is no program to run"),
            Step::Exec { argv, .. } => {
                f.write_str("exec")?;
                argv.as_slice().iter().try_for_each(|arg| write!(f, " {}", Quoted(arg)))
            }
            other => super::scheduling::fmt(other, f),
        }
    }
}

struct Limit(u64);

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX { f.write_str("unlimited") } else { self.0.fmt(f) }
    }
}
