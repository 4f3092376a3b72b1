"""The same bundle under runc, crun and this runtime: what the program sees must be the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

import rscontainer as rsc
from rscontainer import _binary

if TYPE_CHECKING:
    from conftest import BundleFactory, Change


SCRIPT = r"""
section() { echo "== $1"; }
section status
grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid|Umask|SigBlk)' /proc/self/status
section limits; cat /proc/self/limits
section dev; cd /dev && stat -c '%n %F %a %u:%g %t:%T' $(ls -A) && cd "$OLDPWD"
section links; for name in $(ls -A /dev); do test -L /dev/$name && readlink /dev/$name; done
section env; env | sort
section cwd; pwd
section names; hostname; cat /proc/sys/kernel/domainname
section cgroup; cat /proc/self/cgroup
section net; ip -o link
section oom; cat /proc/self/oom_score_adj
section session; cut -d' ' -f 4-8 /proc/self/stat
section mounts; cat /proc/self/mountinfo
"""


def sections(text: str, id: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.replace(id, "ID").splitlines():
        if line.startswith("== "):
            lines = found.setdefault(line[3:], [])
        else:
            lines.append(re.sub(r"\s+", " ", line).strip())
    found["mounts"] = sorted(normal_mount(line) for line in found["mounts"])
    found["links"].sort()
    found["net"] = [line for line in found["net"] if " lo: " in line]
    return found


def normal_mount(line: str) -> str:
    """Without numbers, and with options in one order."""
    mount, _, filesystem = line.partition(" - ")
    _, _, _, root, point, options, *tags = mount.split()
    fstype, source, superblock = filesystem.split()
    tags = [tag.partition(":")[0] for tag in tags]
    if point == "/":
        root = source = superblock = "of the rootfs"
    ordered = [",".join(sorted(text.split(","))) for text in (options, superblock)]
    return " ".join([point, root, ordered[0], *tags, "-", fstype, source, ordered[1]])


def run_with(runtime: str, bundle: rsc.Bundle, id: str, root: Path) -> str:
    # Whose mounts are shared, crun and runc show it in ways of their own.
    argv = ["unshare", "--mount", "--propagation", "private", "--"]
    argv += [runtime, "--root", str(root / Path(runtime).name), "run", "-b", os.fspath(bundle), id]
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    if done.returncode != 0:
        subprocess.run(
            [runtime, "--root", argv[7], "delete", "--force", id], check=False, capture_output=True
        )
    assert done.returncode == 0, f"{runtime}: {done.stderr or done.stdout}"
    return done.stdout


def default(spec: rsc.Spec) -> None:
    """What the runtime's own `spec` writes."""


def rich(spec: rsc.Spec) -> None:
    """A bit of everything."""
    spec.process.user = {"uid": 1000, "gid": 100, "additionalGids": [5, 6], "umask": 0o77}
    spec.process.oomScoreAdj = 100
    spec.process.cwd = "/tmp"
    spec.process.noNewPrivileges = False
    kill = ["CAP_KILL"]
    sets = dict.fromkeys(("permitted", "effective", "inheritable", "ambient"), kill)
    spec.process.capabilities = {"bounding": [*kill, "CAP_CHOWN"], **sets}
    spec.process.rlimits = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]
    fuse = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640}
    spec.linux.devices = [{**fuse, "uid": 3, "gid": 4}]
    spec.linux.sysctl = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4000"}
    others = [namespace for namespace in spec.linux.namespaces if namespace.type != "cgroup"]
    spec.linux.namespaces = [*others, {"type": "cgroup"}]
    spec.linux.rootfsPropagation = "private"

    def mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
        return {
            "destination": destination,
            "type": kind,
            "source": source,
            "options": list(options),
        }

    spec.mounts = [
        *spec.mounts,
        mount("/tmp", "tmpfs", "t", "nosuid", "noexec", "size=1m", "mode=1777", "shared"),
        mount("/home", "bind", "/etc", "rbind", "ro", "nodev", "noatime", "rprivate"),
        mount("/root", "bind", "/etc", "bind", "rslave"),
        mount("/etc/hosts", "bind", "/etc/passwd", "bind", "ro", "nosuid"),
    ]


def options(spec: rsc.Spec) -> None:
    """Mount options, which crun reads in ways of its own: there `nodev,dev` is nodev."""
    words = [
        *("rw", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime"),
        *("sync", "dirsync", "mand", "rprivate", "rshared", "runbindable", "slave", "ro,rw"),
        *("noatime,atime", "noatime,norelatime", "noatime,nostrictatime", "strictatime,atime"),
        *("strictatime,norelatime", "nosuid,suid", "nodev,dev", "noexec,exec", "sync,async"),
        *("nodiratime,diratime", "ro,noexec,nosuid,nodev", "noatime,nodiratime,shared"),
    ]
    recursive = ["rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnodiratime", "rstrictatime"]
    kinds = [("tmpfs", "tmpfs", word) for word in words]
    kinds += [("bind", "/etc", f"rbind,{word}") for word in words + recursive]
    places = [(f"/tmp/{number}", *kind) for number, kind in enumerate(kinds)]
    spec.mounts = [*spec.mounts, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]
    for place, kind, source, words in places:
        # Whether the new superblock is read-only as well is seen nowhere but here.
        if (kind, words) != ("tmpfs", "ro,noexec,nosuid,nodev"):
            mount = {"destination": place, "type": kind, "source": source}
            spec.mounts.append({**mount, "options": words.split(",")})


# Runtime, section, what the line is about, why the two differ. Every other difference is a fault.
REASONS = [
    ("crun", "env", r"HOME=", "crun sets none for a user whom /etc/passwd does not list"),
    (".*", "mounts", r"/proc/\S+ /null ", "a mask is the host's null device, not the rootfs's"),
    (
        ".*",
        "mounts",
        r"/(proc|sys)/\S+ / \S*relatime,ro - tmpfs ",
        "an empty folder that masks is nosuid,nodev,noexec too, and has no room",
    ),
    (".*", "mounts", r"/sys/fs/cgroup / ", "read-only itself where the config asks for that"),
    (
        ".*",
        "mounts",
        r"/sys/fs/cgroup /\S+ \S+ - cgroup2 ",
        "the others show all of the host's where there is no cgroup namespace",
    ),
    (".*", "mounts", r"/sys/fs/cgroup/unified ", "the unified hierarchy beside version 1 is shown"),
    (".*", "mounts", r"/sys/fs/cgroup/\S+ / \S+ - cgroup ", "the word for the source is free"),
    (".*", "cgroup", r"0::/", "the others leave the unified hierarchy beside version 1 alone"),
    ("runc", "dev|links", r"(core |/proc/kcore)", "runc links /dev/core where the kernel has it"),
    ("crun", "dev|links", r"(core |/proc/kcore)", "crun links it always"),
    ("crun", "dev", r"null ", "crun gives standard streams away, /dev/null with them"),
    ("crun", "cgroup", r"", "crun starts at the top, not at the runtime's own cgroup"),
    ("crun", "mounts", r"/sys/fs/cgroup/\S+ /\S+ \S+ - cgroup ", "as above, seen as a mount"),
    ("crun", "mounts", r"/sys / ", "crun leaves the new superblock writable"),
]


def differences(runtime: str, theirs: dict[str, list[str]], ours: dict[str, list[str]]) -> set[str]:
    """The lines that only one of the two has and for which there is no reason."""
    assert theirs.keys() == ours.keys()
    found = set()
    for section, lines in ours.items():
        missing = [("-", line) for line in theirs[section] if line not in lines]
        added = [("+", line) for line in lines if line not in theirs[section]]
        for sign, line in missing + added:
            if not any(
                re.fullmatch(who, runtime) and re.fullmatch(where, section) and re.match(what, line)
                for who, where, what, _ in REASONS
            ):
                found.add(f"{section}: {sign} {line}")
    return found


@pytest.mark.parametrize(
    ("runtime", "change"),
    [
        *((runtime, change) for runtime in ("runc", "crun") for change in (default, rich, None)),
        ("runc", options),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else getattr(value, "__name__", "walkthrough")
    ),
)
@pytest.mark.requires_root("to compare what root's containers see")
def test_the_program_sees_the_same(
    bundle: BundleFactory,
    tmp_path: Path,
    unique_id: Callable[[], str],
    runtime: str,
    change: Change | None,
) -> None:
    binary = shutil.which(runtime, path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        pytest.skip(f"this host has no {runtime}")

    def known_to_all(spec: rsc.Spec) -> None:
        if change is not None:
            # Older releases do not know the version that is the default here.
            spec.ociVersion = "1.0.2"
            change(spec)

    made = bundle(known_to_all, args=["sh", "-c", SCRIPT], seed=change is None)
    name = unique_id()
    try:
        theirs = sections(run_with(binary, made, name, tmp_path), name)
    except AssertionError as error:
        if runtime == "crun" and "cgroup" in str(error):
            pytest.skip(f"crun wants cgroup mounts that this host does not have: {error}")
        raise
    ours = sections(run_with(_binary.binary(), made, name, tmp_path), name)
    assert differences(runtime, theirs, ours) == set()
