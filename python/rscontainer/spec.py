"""The config of a container, ``config.json`` of the OCI runtime specification, as a tree.

Every object of the specification is a :class:`Node`: a ``dict`` whose known keys are also
attributes, under the names that the specification gives them::

    spec = Spec.default()
    spec.process.args = ["sh", "-c", "echo hi"]
    spec.linux.resources.memory.limit = 64 << 20
    spec.mounts.append({"destination": "/data", "source": "/srv", "options": ["rbind", "ro"]})

What reading gives:

* a value that is absent: ``None``;
* an object or array that is absent: an empty one, which becomes part of the config when
  something is first written into it, and not before. It is false in a condition;
* a name that the specification does not know: :exc:`AttributeError`, which says what was
  probably meant. Assigning to such a name raises too, so that a slip of the pen cannot
  loosen a container unnoticed.

Keys that the specification does not know are kept, and are there as ``node["key"]``.
Assigning ``None`` to an attribute removes it, as ``del`` does. Plain dicts and lists become
nodes and arrays when they are put into the tree, as copies; a node that already has a place
in a tree is copied too, so a change in one place never shows up in another.

The types here hold for reading. Nothing is checked before :meth:`Spec.validate`, or before
the container is made, but that attributes hold objects and arrays where they should.
"""

from __future__ import annotations

import os

from rscontainer import _core
from rscontainer._node import Array, Map, Node
from rscontainer._node import ObjectProperty as _Object
from rscontainer._node import ObjectsProperty as _Objects
from rscontainer._node import PathProperty as _Path
from rscontainer._node import ValueProperty as _Value
from rscontainer._node import ValuesProperty as _Values
from rscontainer.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from typing_extensions import Self

    from rscontainer._node import StrPath

__all__ = [
    "CPU",
    "Array",
    "BlockIO",
    "CPUAffinity",
    "Capabilities",
    "ConsoleSize",
    "Device",
    "DeviceRule",
    "Hook",
    "Hooks",
    "HugepageLimit",
    "IDMapping",
    "IOPriority",
    "IntelRdt",
    "InterfacePriority",
    "Linux",
    "Map",
    "Memory",
    "MemoryPolicy",
    "Mount",
    "Namespace",
    "NetDevice",
    "NetDeviceMap",
    "Network",
    "Node",
    "Personality",
    "Pids",
    "Process",
    "Rdma",
    "RdmaMap",
    "Resources",
    "Rlimit",
    "Root",
    "Scheduler",
    "Seccomp",
    "SeccompArg",
    "Spec",
    "Syscall",
    "ThrottleDevice",
    "TimeOffset",
    "TimeOffsets",
    "User",
    "WeightDevice",
]


class Root(Node):
    """The container's root filesystem (config.md#root)."""

    __slots__ = ()
    path = _Path("Path of the root filesystem, absolute or relative to the bundle. Required.")
    readonly = _Value[bool]("Whether the container sees it read-only; absent is no.")


class IDMapping(Node):
    """A range of ids and where it is mapped to (config-linux.md#user-namespace-mappings)."""

    __slots__ = ()
    containerID = _Value[int]("The first id inside the container.")
    hostID = _Value[int]("The first id outside.")
    size = _Value[int]("The number of ids, at least one.")


class Mount(Node):
    """A mount (config.md#mounts)."""

    __slots__ = ()
    destination = _Path("Where, as an absolute path inside the container. Required.")
    type = _Value[str]("The filesystem, such as tmpfs; not needed for bind mounts.")
    source = _Path("The device, or for a bind mount the path, absolute or relative to the bundle.")
    options = _Values[str]("Options as in fstab, such as rbind, ro, nosuid, size=64k.")
    uidMappings = _Objects(IDMapping, "User ids of an id-mapped mount; along with gidMappings.")
    gidMappings = _Objects(IDMapping, "Group ids of an id-mapped mount; along with uidMappings.")


class ConsoleSize(Node):
    """The terminal's size in characters (config.md#process)."""

    __slots__ = ()
    height = _Value[int]("Rows, at most 65535.")
    width = _Value[int]("Columns, at most 65535.")


class User(Node):
    """Whom the process runs as (config.md#user)."""

    __slots__ = ()
    uid = _Value[int]("The user id, as the container sees it; absent is 0.")
    gid = _Value[int]("The group id, as the container sees it; absent is 0.")
    umask = _Value[int]("The mode bits that new files lack, such as 0o022.")
    additionalGids = _Values[int]("Further group ids, as the container sees them.")
    username = _Value[str]("The user's name; for Windows, ignored here.")


class Capabilities(Node):
    """The five sets of capabilities, by names such as CAP_KILL (config.md#linux-process).

    An unknown name, or one that cannot be granted, is left out with a warning.
    """

    __slots__ = ()
    bounding = _Values[str]("What the process and its children can ever get.")
    effective = _Values[str]("What is checked; of those permitted.")
    inheritable = _Values[str]("What survives an exec of a file with the same ones.")
    permitted = _Values[str]("What the process may use.")
    ambient = _Values[str]("What survives any exec; of those permitted and inheritable.")


class Rlimit(Node):
    """A resource limit (config.md#posix-process)."""

    __slots__ = ()
    type = _Value[str]("The resource, such as RLIMIT_NOFILE. Required, and once only.")
    hard = _Value[int]("The ceiling of the soft limit, in the resource's own unit.")
    soft = _Value[int]("The limit, in the resource's own unit.")


class Scheduler(Node):
    """How the process is scheduled (config.md#linux-process)."""

    __slots__ = ()
    policy = _Value[str]("Such as SCHED_OTHER or SCHED_FIFO. Required.")
    nice = _Value[int]("From -20, favoured, to 19.")
    priority = _Value[int]("From 1 to 99, for SCHED_FIFO and SCHED_RR.")
    flags = _Values[str]("Such as SCHED_FLAG_RESET_ON_FORK.")
    runtime = _Value[int]("Nanoseconds of work in a period, for SCHED_DEADLINE.")
    deadline = _Value[int]("Nanoseconds until it is done, for SCHED_DEADLINE.")
    period = _Value[int]("Nanoseconds from one start to the next, for SCHED_DEADLINE.")


class IOPriority(Node):
    """How the process's input and output are scheduled (config.md#linux-process)."""

    __slots__ = ()
    # `class` cannot follow a dot in Python, so it is an item.
    priority = _Value[int]('From 0, favoured, to 7. The class is the item "class".')


class CPUAffinity(Node):
    """The processors of a process that is executed in the container (config.md#linux-process)."""

    __slots__ = ()
    initial = _Value[str]("A list such as 0-3,7, until the process is in its cgroup.")
    final = _Value[str]("A list such as 0-3,7, afterwards.")


class Process(Node):
    """The program of the container (config.md#process)."""

    __slots__ = ()
    terminal = _Value[bool]("Whether it gets a terminal of its own; absent is no.")
    consoleSize = _Object(ConsoleSize, "The size of that terminal.")
    user = _Object(User, "Whom it runs as.")
    args = _Values[str]("The program and its arguments. Required.")
    env = _Values[str]("The environment, as NAME=value.")
    cwd = _Path("The working directory, as an absolute path inside the container. Required.")
    capabilities = _Object(Capabilities, "The five sets of capabilities.")
    rlimits = _Objects(Rlimit, "Resource limits.")
    noNewPrivileges = _Value[bool]("Whether no exec can gain privileges; absent is no.")
    apparmorProfile = _Value[str]("The name of an AppArmor profile.")
    oomScoreAdj = _Value[int]("From -1000, never killed for want of memory, to 1000, first.")
    selinuxLabel = _Value[str]("The SELinux label of the process.")
    ioPriority = _Object(IOPriority, "How its input and output are scheduled.")
    scheduler = _Object(Scheduler, "How it is scheduled.")
    execCPUAffinity = _Object(CPUAffinity, "The processors of what is executed in the container.")
    commandLine = _Value[str]("For Windows, ignored here.")


class Hook(Node):
    """A program to run at a point of the container's life (config.md#posix-platform-hooks)."""

    __slots__ = ()
    path = _Path("The program, as an absolute path. Required.")
    args = _Values[str]("Its arguments, the first being its name.")
    env = _Values[str]("Its environment, as NAME=value.")
    timeout = _Value[int]("Seconds until it is given up; more than zero.")


class Hooks(Node):
    """The hooks, each list in order (config.md#posix-platform-hooks)."""

    __slots__ = ()
    prestart = _Objects(Hook, "Before createRuntime, which replaces it.")
    createRuntime = _Objects(Hook, "On create, in the host's namespaces, before pivot_root.")
    createContainer = _Objects(Hook, "On create, in the container's namespaces, before pivot_root.")
    startContainer = _Objects(Hook, "On start, in the container, before its program.")
    poststart = _Objects(Hook, "On start, in the host's namespaces, after the program's start.")
    poststop = _Objects(Hook, "On delete, in the host's namespaces.")


class Namespace(Node):
    """A namespace of the container's own, or one to join (config-linux.md#namespaces)."""

    __slots__ = ()
    type = _Value[str]("pid, network, mount, ipc, uts, user, cgroup or time. Required.")
    path = _Path("The namespace to join, as an absolute path; absent makes a new one.")


class Device(Node):
    """A device file (config-linux.md#devices)."""

    __slots__ = ()
    type = _Value[str]("c, b, u or p. Required.")
    path = _Path("The path inside the container. Required.")
    major = _Value[int]("The device's major number; not for p.")
    minor = _Value[int]("The device's minor number; not for p.")
    fileMode = _Value[int]("The mode, such as 0o660.")
    uid = _Value[int]("The owner, as the container sees it.")
    gid = _Value[int]("The owning group, as the container sees it.")


class DeviceRule(Node):
    """Which devices may be used; the last rule that fits counts
    (config-linux.md#allowed-device-list)."""

    __slots__ = ()
    allow = _Value[bool]("Whether to allow or to deny. Required.")
    type = _Value[str]("a (all, and so when absent), c or b.")
    major = _Value[int]("The major number; absent is every one.")
    minor = _Value[int]("The minor number; absent is every one.")
    access = _Value[str]("Of r (read), w (write) and m (make the file).")


class Memory(Node):
    """Limits of memory, in bytes, -1 for none (config-linux.md#memory)."""

    __slots__ = ()
    limit = _Value[int]("The hard limit, in bytes.")
    reservation = _Value[int]("The soft limit, in bytes.")
    swap = _Value[int]("The limit of memory and swap together, in bytes; not below limit.")
    kernel = _Value[int]("The limit of kernel memory, in bytes; without effect since Linux 5.4.")
    kernelTCP = _Value[int]("The limit of TCP buffers, in bytes.")
    swappiness = _Value[int]("From 0 to 100, the more the swappier.")
    disableOOMKiller = _Value[bool]("Whether the container waits for memory, and is not killed.")
    useHierarchy = _Value[bool]("Whether the limits hold for the cgroups below too.")
    checkBeforeUpdate = _Value[bool]("Whether a limit below what is used is refused on update.")


class CPU(Node):
    """Limits of processor time (config-linux.md#cpu)."""

    __slots__ = ()
    shares = _Value[int]("The weight among others; 1024 is usual.")
    quota = _Value[int]("Microseconds in a period; negative is no limit.")
    burst = _Value[int]("Microseconds that may be saved up, at most the quota.")
    period = _Value[int]("The length of a period, in microseconds.")
    realtimeRuntime = _Value[int]("Microseconds in a real-time period.")
    realtimePeriod = _Value[int]("The length of a real-time period, in microseconds.")
    cpus = _Value[str]("The processors, a list such as 0-3,7.")
    mems = _Value[str]("The memory nodes, a list such as 0-1.")
    idle = _Value[int]("1 for SCHED_IDLE, 0 for not.")


class Pids(Node):
    """The limit of processes (config-linux.md#pids)."""

    __slots__ = ()
    limit = _Value[int]("The largest number of tasks; -1 is no limit.")


class WeightDevice(Node):
    """The weight for one block device (config-linux.md#block-io)."""

    __slots__ = ()
    major = _Value[int]("The device's major number. Required.")
    minor = _Value[int]("The device's minor number. Required.")
    weight = _Value[int]("From 10 to 1000.")
    leafWeight = _Value[int]("From 10 to 1000, against the cgroups below.")


class ThrottleDevice(Node):
    """The limit for one block device (config-linux.md#block-io)."""

    __slots__ = ()
    major = _Value[int]("The device's major number. Required.")
    minor = _Value[int]("The device's minor number. Required.")
    rate = _Value[int]("Bytes, or operations, a second. Required.")


class BlockIO(Node):
    """Limits of block devices (config-linux.md#block-io)."""

    __slots__ = ()
    weight = _Value[int]("From 10 to 1000.")
    leafWeight = _Value[int]("From 10 to 1000, against the cgroups below.")
    weightDevice = _Objects(WeightDevice, "Weights for single devices.")
    throttleReadBpsDevice = _Objects(ThrottleDevice, "Limits of reading, in bytes a second.")
    throttleWriteBpsDevice = _Objects(ThrottleDevice, "Limits of writing, in bytes a second.")
    throttleReadIOPSDevice = _Objects(ThrottleDevice, "Limits of reading, in operations a second.")
    throttleWriteIOPSDevice = _Objects(ThrottleDevice, "Limits of writing, in operations a second.")


class HugepageLimit(Node):
    """The limit for one size of huge pages (config-linux.md#huge-page-limits)."""

    __slots__ = ()
    pageSize = _Value[str]("Such as 64KB, 2MB or 1GB. Required.")
    limit = _Value[int]("In bytes. Required.")


class InterfacePriority(Node):
    """The priority of packets of one interface (config-linux.md#network)."""

    __slots__ = ()
    name = _Value[str]("The interface. Required.")
    priority = _Value[int]("The priority. Required.")


class Network(Node):
    """Marks on packets (config-linux.md#network)."""

    __slots__ = ()
    classID = _Value[int]("The class of net_cls.")
    priorities = _Objects(InterfacePriority, "Priorities of net_prio.")


class Rdma(Node):
    """Limits of one RDMA device (config-linux.md#rdma)."""

    __slots__ = ()
    hcaHandles = _Value[int]("The largest number of handles.")
    hcaObjects = _Value[int]("The largest number of objects.")


class RdmaMap(Map):
    """Limits by RDMA device (config-linux.md#rdma)."""

    __slots__ = ()
    _item = Rdma


class Resources(Node):
    """What the container may use, by its cgroup (config-linux.md#control-groups)."""

    __slots__ = ()
    devices = _Objects(DeviceRule, "Which devices may be used.")
    memory = _Object(Memory, "Limits of memory.")
    cpu = _Object(CPU, "Limits of processor time.")
    pids = _Object(Pids, "The limit of processes.")
    blockIO = _Object(BlockIO, "Limits of block devices.")
    hugepageLimits = _Objects(HugepageLimit, "Limits of huge pages.")
    network = _Object(Network, "Marks on packets.")
    rdma = _Object(RdmaMap, "Limits by RDMA device.")
    unified = _Object(Map, 'Files of cgroup v2 and what to write: unified["memory.high"].')


class SeccompArg(Node):
    """A condition on an argument of a system call (config-linux.md#seccomp)."""

    __slots__ = ()
    index = _Value[int]("Which argument, from 0 to 5. Required.")
    value = _Value[int]("What it is compared with. Required.")
    valueTwo = _Value[int]("What a masked argument is compared with.")
    op = _Value[str]("The comparison, such as SCMP_CMP_EQ. Required.")


class Syscall(Node):
    """A rule for system calls (config-linux.md#seccomp)."""

    __slots__ = ()
    names = _Values[str]("The calls; at least one. Required.")
    action = _Value[str]("Such as SCMP_ACT_ALLOW. Required.")
    errnoRet = _Value[int]("The errno for SCMP_ACT_ERRNO and SCMP_ACT_TRACE; absent is EPERM.")
    args = _Objects(SeccompArg, "Conditions, all of which must hold.")


class Seccomp(Node):
    """The filter of system calls (config-linux.md#seccomp)."""

    __slots__ = ()
    defaultAction = _Value[str]("For calls without a rule, such as SCMP_ACT_ERRNO. Required.")
    defaultErrnoRet = _Value[int]("The errno of the default action; absent is EPERM.")
    architectures = _Values[str]("Such as SCMP_ARCH_X86_64.")
    flags = _Values[str]("Such as SECCOMP_FILTER_FLAG_LOG.")
    listenerPath = _Path("The socket of the agent for SCMP_ACT_NOTIFY.")
    listenerMetadata = _Value[str]("What the agent is told; only with listenerPath.")
    syscalls = _Objects(Syscall, "The rules.")


class IntelRdt(Node):
    """Shares of cache and memory bandwidth (config-linux.md#intelrdt)."""

    __slots__ = ()
    closID = _Value[str]("The class of service; absent is the container's id.")
    schemata = _Values[str]("Lines for the schemata file.")
    l3CacheSchema = _Value[str]("The line for the L3 cache.")
    memBwSchema = _Value[str]("The line for memory bandwidth, which starts with MB:.")
    enableMonitoring = _Value[bool]("Whether the container gets a monitoring group.")
    enableCMT = _Value[bool]("Replaced by enableMonitoring.")
    enableMBM = _Value[bool]("Replaced by enableMonitoring.")


class MemoryPolicy(Node):
    """Where memory comes from (config-linux.md#memory-policy)."""

    __slots__ = ()
    mode = _Value[str]("Such as MPOL_BIND. Required.")
    nodes = _Value[str]("A list such as 0-1.")
    flags = _Values[str]("Such as MPOL_F_STATIC_NODES.")


class Personality(Node):
    """The execution domain (config-linux.md#personality)."""

    __slots__ = ()
    domain = _Value[str]("LINUX or LINUX32. Required.")
    flags = _Values[str]("None is supported.")


class TimeOffset(Node):
    """The offset of a clock (config-linux.md#offset-for-time-namespace)."""

    __slots__ = ()
    secs = _Value[int]("Seconds, which may be negative.")
    nanosecs = _Value[int]("Nanoseconds on top, less than a second.")


class TimeOffsets(Node):
    """The offsets of the clocks in a new time namespace."""

    __slots__ = ()
    monotonic = _Object(TimeOffset, "Of CLOCK_MONOTONIC.")
    boottime = _Object(TimeOffset, "Of CLOCK_BOOTTIME.")


class NetDevice(Node):
    """A network device to move into the container (config-linux.md#network-devices)."""

    __slots__ = ()
    name = _Value[str]("Its name inside; absent keeps the host's.")


class NetDeviceMap(Map):
    """Devices to move into the container, by their names on the host."""

    __slots__ = ()
    _item = NetDevice


class Linux(Node):
    """What is Linux's own (config-linux.md)."""

    __slots__ = ()
    namespaces = _Objects(Namespace, "What the container has for itself.")
    uidMappings = _Objects(IDMapping, "User ids of a new user namespace.")
    gidMappings = _Objects(IDMapping, "Group ids of a new user namespace.")
    timeOffsets = _Object(TimeOffsets, "Offsets of clocks in a new time namespace.")
    devices = _Objects(Device, "Device files beyond the usual ones.")
    netDevices = _Object(NetDeviceMap, "Network devices to move in, by their names on the host.")
    cgroupsPath = _Value[str]("The cgroup; from the cgroup root if absolute.")
    resources = _Object(Resources, "What the container may use.")
    intelRdt = _Object(IntelRdt, "Shares of cache and memory bandwidth.")
    memoryPolicy = _Object(MemoryPolicy, "Where memory comes from.")
    sysctl = _Object(Map, 'Parameters of its namespaces: sysctl["net.core.somaxconn"] = "256".')
    seccomp = _Object(Seccomp, "The filter of system calls.")
    rootfsPropagation = _Value[str]("Such as private, rslave or shared.")
    maskedPaths = _Values[str]("Paths that are hidden; those that do not exist are skipped.")
    readonlyPaths = _Values[str]("Paths made read-only; those that do not exist are skipped.")
    mountLabel = _Value[str]("The SELinux label of the mounts.")
    personality = _Object(Personality, "The execution domain.")


class Spec(Node):
    """A container's config, ``config.json``, at runtime-spec 1.3.

    See the module's text for how its attributes behave.
    """

    __slots__ = ()
    ociVersion = _Value[str]("The specification's version. Required (config.md).")
    process = _Object(Process, "The program.")
    root = _Object(Root, "The root filesystem.")
    hostname = _Value[str]("The hostname; needs a uts namespace (config.md#hostname).")
    domainname = _Value[str]("The NIS domain name; needs a uts namespace (config.md#domainname).")
    mounts = _Objects(Mount, "The mounts, in order.")
    hooks = _Object(Hooks, "Programs to run at points of the container's life.")
    annotations = _Object(Map, 'Anything else, as strings: annotations["com.example.key"].')
    linux = _Object(Linux, "What is Linux's own.")
    solaris = _Object(Node, "For Solaris, ignored here.")
    windows = _Object(Node, "For Windows, ignored here.")
    vm = _Object(Node, "For virtual machines, ignored here.")
    zos = _Object(Node, "For z/OS, ignored here.")

    @classmethod
    def default(cls, rootless: bool = False) -> Self:
        """What ``runc spec`` writes, at runtime-spec 1.3.

        Args:
            rootless: what ``runc spec --rootless`` writes: a user namespace with the caller's
                own ids as root, the host's network, no limits.
        """
        return cls.from_json(_core.default_spec(rootless))

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Reads a ``config.json``, or the one in a bundle's folder.

        Raises:
            OSError: if the file cannot be read.
            SpecError: if it is not a JSON object in UTF-8, naming file, line and column.
        """
        path = os.fspath(path)
        if os.path.isdir(path):
            path = os.path.join(path, "config.json")
        with open(path, "rb") as file:
            # One byte more than is allowed tells that there are too many.
            data = file.read(_LARGEST + 1)
        return cls._read(data, f"{path}: ")

    @classmethod
    def from_json(cls, data: str | bytes | bytearray) -> Self:
        """Reads JSON.

        Raises:
            SpecError: if it is not a JSON object, naming line and column.
            TypeError: if it is neither str nor bytes.
        """
        if not isinstance(data, (str, bytes, bytearray)):
            raise TypeError(f"JSON is str or bytes, not {type(data).__name__}")
        return cls._read(data, "")

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Self:
        """Makes a config from plain dicts and lists, which are copied all the way down.

        Raises:
            TypeError: if it is not a mapping, or holds what JSON does not have.
        """
        return cls(members)

    @classmethod
    def _read(cls, data: str | bytes | bytearray, where: str) -> Self:
        # Reading JSON is not what every importer of the package is after.
        import json

        if len(data) > _LARGEST:
            raise SpecError(f"{where}the config is larger than {_LARGEST} bytes")
        try:
            text = data if isinstance(data, str) else data.decode("utf-8")
            members = json.loads(
                text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant
            )
        except json.JSONDecodeError as error:
            at = f"line {error.lineno} column {error.colno}"
            cut = ", where it is cut off" if error.pos >= len(text.rstrip()) else ""
            message = f"the config is not JSON at {at}{cut}: {error.msg}"
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            message = f"the config is not UTF-8 at line {line} column {column}"
        except RecursionError:
            message = "the config is nested too deeply"
        except ValueError as error:
            message = str(error)
        else:
            if isinstance(members, dict):
                return cls(members)
            message = f"the config must be a JSON object, not {type(members).__name__}"
        raise SpecError(where + message)

    def to_json(self, indent: int | str | None = None) -> str:
        """The config as JSON, keys in their order.

        Args:
            indent: as in :func:`json.dumps`; absent is one line.

        Raises:
            SpecError: if a string cannot be written in UTF-8, or a number is not finite.
        """
        import json

        separators = (",", ":") if indent is None else (",", ": ")
        try:
            text = json.dumps(
                self, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators
            )
            if not text.isascii():
                text.encode()
        except ValueError as error:
            raise SpecError(f"the config cannot be written as JSON: {error}") from None
        return text

    def save(self, path: StrPath, indent: int | str | None = 2) -> None:
        """Writes the config to a file, or to ``config.json`` in a bundle's folder.

        Whatever happens, the file is either the old one or the new one. Its mode is kept, and
        a symbolic link is followed.

        Raises:
            OSError: if the file cannot be written.
            SpecError: as :meth:`to_json`.
        """
        data = (self.to_json(indent) + "\n").encode()
        path = os.path.realpath(path)
        if os.path.isdir(path):
            path = os.path.join(path, "config.json")
        folder, name = os.path.split(path)
        # The name is tried exclusively, so that it need not be secret.
        temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(6).hex()}")
        try:
            mode = os.stat(path).st_mode & 0o7777
        except FileNotFoundError:
            mode = None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o666)
        try:
            with open(fd, "wb") as file:
                if mode is not None:
                    os.fchmod(fd, mode)
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def validate(self) -> list[str]:
        """Checks every rule of the specification that needs no host to be checked.

        Returns:
            Warnings: what works, but perhaps not as hoped, such as an unknown capability or an
            unknown key that resembles a known one.

        Raises:
            SpecError: for the first rule that is broken, naming its JSON path, the value and
                the section of the specification.
        """
        return [*_core.validate_spec(self.to_json()), *self._typos("$")]

    def explain(self, bundle: StrPath = ".") -> str:
        """The plan: what would be done to make the container, one step a line.

        Args:
            bundle: the folder that relative paths start from.

        Raises:
            SpecError: as :meth:`validate`.
        """
        return _core.explain_spec(self.to_json(), os.fspath(bundle))

    def __repr__(self) -> str:
        try:
            args, root = self.process.args.copy(), self.root.path
            return f"<Spec {args!r:.80} in {root!r}, {len(self.mounts)} mounts>"
        except (AttributeError, TypeError):
            # Read from a file, it may hold anything until it is validated.
            return super().__repr__()


# As large as the core takes.
_LARGEST = 16 << 20


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = sorted(key for key, _ in pairs)
        twice = next(key for key, after in zip(keys, keys[1:]) if key == after)
        raise ValueError(f"the key {twice!r:.60} is there twice in one object")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"the config is not JSON: {name} is no number")
