//! Which section of the specification a JSON path belongs to.

/// The first prefix that fits wins, so the longer ones stand first.
const SECTIONS: &[(&str, &str)] = &[
    ("$.ociVersion", "config.md#specification-version"),
    ("$.root", "config.md#root"),
    ("$.mounts", "config.md#mounts"),
    ("$.process.user", "config.md#user"),
    ("$.process.rlimits", "config.md#posix-process"),
    ("$.process.apparmorProfile", "config.md#linux-process"),
    ("$.process.capabilities", "config.md#linux-process"),
    ("$.process.noNewPrivileges", "config.md#linux-process"),
    ("$.process.oomScoreAdj", "config.md#linux-process"),
    ("$.process.scheduler", "config.md#linux-process"),
    ("$.process.selinuxLabel", "config.md#linux-process"),
    ("$.process.ioPriority", "config.md#linux-process"),
    ("$.process.execCPUAffinity", "config.md#linux-process"),
    ("$.process", "config.md#process"),
    ("$.hostname", "config.md#hostname"),
    ("$.domainname", "config.md#domainname"),
    ("$.hooks", "config.md#posix-platform-hooks"),
    ("$.annotations", "config.md#annotations"),
    ("$.linux.namespaces", "config-linux.md#namespaces"),
    ("$.linux.uidMappings", "config-linux.md#user-namespace-mappings"),
    ("$.linux.gidMappings", "config-linux.md#user-namespace-mappings"),
    ("$.linux.timeOffsets", "config-linux.md#offset-for-time-namespace"),
    ("$.linux.devices", "config-linux.md#devices"),
    ("$.linux.netDevices", "config-linux.md#network-devices"),
    ("$.linux.cgroupsPath", "config-linux.md#cgroups-path"),
    ("$.linux.resources.devices", "config-linux.md#allowed-device-list"),
    ("$.linux.resources.memory", "config-linux.md#memory"),
    ("$.linux.resources.cpu", "config-linux.md#cpu"),
    ("$.linux.resources.blockIO", "config-linux.md#block-io"),
    ("$.linux.resources.hugepageLimits", "config-linux.md#huge-page-limits"),
    ("$.linux.resources.network", "config-linux.md#network"),
    ("$.linux.resources.pids", "config-linux.md#pids"),
    ("$.linux.resources.rdma", "config-linux.md#rdma"),
    ("$.linux.resources.unified", "config-linux.md#unified"),
    ("$.linux.resources", "config-linux.md#control-groups"),
    ("$.linux.intelRdt", "config-linux.md#intelrdt"),
    ("$.linux.memoryPolicy", "config-linux.md#memory-policy"),
    ("$.linux.sysctl", "config-linux.md#sysctl"),
    ("$.linux.seccomp", "config-linux.md#seccomp"),
    ("$.linux.rootfsPropagation", "config-linux.md#rootfs-mount-propagation"),
    ("$.linux.maskedPaths", "config-linux.md#masked-paths"),
    ("$.linux.readonlyPaths", "config-linux.md#readonly-paths"),
    ("$.linux.mountLabel", "config-linux.md#mount-label"),
    ("$.linux.personality", "config-linux.md#personality"),
    ("$.linux", "config-linux.md"),
];

/// The section that defines the property at a JSON path.
pub(super) fn of(path: &str) -> &'static str {
    let fits = |prefix: &str| match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with(['.', '[']),
        None => false,
    };
    SECTIONS.iter().find(|(prefix, _)| fits(prefix)).map_or("config.md", |(_, section)| section)
}
