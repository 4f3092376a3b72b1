"""What this version understands, whatever the host gives."""

from __future__ import annotations

from rscontainer import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Enabled(TypedDict):
        enabled: bool

    class CgroupFeatures(TypedDict):
        v1: bool
        v2: bool
        systemd: bool
        systemdUser: bool
        rdma: bool

    class SeccompFeatures(TypedDict, total=False):
        enabled: bool
        actions: list[str]
        operators: list[str]
        archs: list[str]
        knownFlags: list[str]
        supportedFlags: list[str]

    class IntelRdtFeatures(TypedDict):
        enabled: bool
        schemata: bool
        monitoring: bool

    class MemoryPolicyFeatures(TypedDict):
        modes: list[str]
        flags: list[str]

    class MountExtensions(TypedDict):
        idmap: Enabled

    class LinuxFeatures(TypedDict):
        namespaces: list[str]
        capabilities: list[str]
        cgroup: CgroupFeatures
        seccomp: SeccompFeatures
        apparmor: Enabled
        selinux: Enabled
        intelRdt: IntelRdtFeatures
        memoryPolicy: MemoryPolicyFeatures
        mountExtensions: MountExtensions
        netDevices: Enabled

    class Features(TypedDict):
        ociVersionMin: str
        ociVersionMax: str
        hooks: list[str]
        mountOptions: list[str]
        linux: LinuxFeatures
        annotations: dict[str, str]
        potentiallyUnsafeConfigAnnotations: list[str]

else:
    # Types for checkers alone: importing the package shall not cost what typing costs.
    Features = dict


def features() -> Features:
    """The features structure of the runtime specification (features.md), as a new dict.

    It is the same on every host, and says what configs may ask for, not what this host can give.
    """
    import json  # noqa: PLC0415 - not what every importer of the package is after

    found: Features = json.loads(_core.features())
    return found
