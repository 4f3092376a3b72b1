"""Namespaces: each kind new, joined by its path, or the host's; and what belongs to one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import ORDINARY, user_namespace

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, Shell


# The specification's words, the kernel's files, the flag of unshare(1).
KINDS = {
    "ipc": ("ipc", "--ipc"),
    "network": ("net", "--net"),
    "uts": ("uts", "--uts"),
    "cgroup": ("cgroup", "--cgroup"),
    "time": ("time", "--time"),
    "pid": ("pid", "--pid"),
    "user": ("user", "--user"),
    "mount": ("mnt", "--mount"),
}


def having(*namespaces: dict[str, Any], without: tuple[str, ...] = ()) -> Change:
    """With these namespaces in place of those of their kind, and without some."""

    def change(spec: rsc.Spec) -> None:
        away = {namespace["type"] for namespace in namespaces} | set(without)
        kept = [n for n in spec.linux.namespaces if n.type not in away]
        spec.linux.namespaces = [*kept, *namespaces]
        if "uts" in without:
            del spec.hostname
        if "network" in without:
            # The kernel wants a network namespace of one's own for it.
            spec.mounts = [m for m in spec.mounts if m.type not in {"sysfs", "cgroup"}]
        if "ipc" in without:
            spec.mounts = [m for m in spec.mounts if m.type != "mqueue"]

    return change


def mapped(spec: rsc.Spec) -> None:
    having(without=("user",))(spec)
    user_namespace(spec)


def own(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{KINDS[kind][0]}")


def inside(sh: Shell, kind: str, change: Change | None = None) -> str:
    return sh(f"readlink /proc/self/ns/{KINDS[kind][0]}", change).strip()


def available(kind: str) -> None:
    if not Path(f"/proc/self/ns/{KINDS[kind][0]}").exists():
        pytest.skip(f"this kernel has no {kind} namespaces")


@contextlib.contextmanager
def holder(*flags: str) -> Iterator[int]:
    """A process with namespaces of its own; its number."""
    program = ["unshare", *flags, "sh", "-c", "echo ready; exec sleep 600"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process.pid
        finally:
            process.kill()
            if "--pid" in flags:
                # unshare waited for the one that holds the namespace.
                process.wait()


@pytest.mark.parametrize("kind", KINDS)
def test_new(sh: Shell, kind: str) -> None:
    available(kind)
    change = mapped if kind == "user" else having({"type": kind})
    found = inside(sh, kind, change)
    assert found.startswith(KINDS[kind][0])
    assert found != own(kind)


@pytest.mark.parametrize("kind", ["ipc", "network", "uts", "cgroup", "time", "user"])
def test_not_named_is_the_hosts(sh: Shell, kind: str) -> None:
    available(kind)
    if kind == "user" and ORDINARY:
        pytest.skip("needs root: to do without a user namespace")
    assert inside(sh, kind, having(without=(kind,))) == own(kind)


@pytest.mark.requires_root("to mount proc without a pid namespace")
def test_the_hosts_processes_without_a_pid_namespace(sh: Shell) -> None:
    change = having(without=("pid",))
    assert inside(sh, "pid", change) == own("pid")
    assert int(sh("echo $$", change)) > 1


@pytest.mark.requires_root("to make namespaces outside of a container")
@pytest.mark.parametrize("kind", ["ipc", "network", "uts", "time"])
def test_joined_by_path(sh: Shell, kind: str) -> None:
    available(kind)
    name, flag = KINDS[kind]
    flags = (flag, "--fork", "--kill-child") if kind == "time" else (flag,)
    with holder(*flags) as first:
        children = Path(f"/proc/{first}/task/{first}/children")
        pid = int(children.read_text()) if kind == "time" else first
        path = f"/proc/{pid}/ns/{name}"
        found = inside(sh, kind, having({"type": kind, "path": path}))
        assert found == os.readlink(path) != own(kind)


@pytest.mark.requires_root("to make namespaces outside of a container")
def test_joined_cgroup_namespace(sh: Shell) -> None:
    with holder("--cgroup") as pid:
        path = f"/proc/{pid}/ns/cgroup"
        found = inside(sh, "cgroup", having({"type": "cgroup", "path": path}))
        assert found == os.readlink(path)


@pytest.mark.requires_root("to join the pid namespace of another container")
def test_joined_pid_namespace(
    bundle: BundleFactory, root: Path, sh: Shell, unique_id: Callable[[], str]
) -> None:
    made = bundle(args=["sleep", "600"])
    with rsc.Container.run(unique_id(), made, root=root, stdin=rsc.DEVNULL) as first:
        change = having({"type": "pid", "path": f"/proc/{first.pid}/ns/pid"})
        names = sh("for pid in /proc/[0-9]*; do cat $pid/comm; done", change).split()
        assert "sleep" in names
        assert "rsc:[init]" not in names
        assert first.status == "running"


@pytest.mark.requires_root("to make namespaces outside of a container")
def test_joined_user_namespace(sh: Shell) -> None:
    with holder("--user") as pid:
        for file in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{file}").write_text("0 100000 65536\n")
        path = f"/proc/{pid}/ns/user"

        # With the host's processes there can be no new proc.
        def change(spec: rsc.Spec) -> None:
            having({"type": "user", "path": path}, without=("pid",))(spec)
            spec.mounts = [m for m in spec.mounts if m.type not in {"proc", "cgroup"}]
            proc = {"destination": "/proc", "source": "/proc", "options": ["rbind"]}
            spec.mounts = [proc, *spec.mounts]
            spec.linux.maskedPaths = spec.linux.readonlyPaths = []

        script = "readlink /proc/self/ns/user; cat /proc/self/uid_map; id -u"
        lines = sh(script, change).splitlines()
        assert lines[0] == os.readlink(path)
        assert lines[1].split() == ["0", "100000", "65536"]
        assert lines[2] == "0"


def test_a_path_of_another_kind_is_named(sh: Shell) -> None:
    change = having({"type": "ipc", "path": "/proc/self/ns/uts"})
    with pytest.raises(rsc.SystemCallError, match=r"join ipc namespace.*EINVAL") as caught:
        sh("true", change)
    assert "a namespace of another kind" in str(caught.value)
    with pytest.raises(rsc.SystemCallError, match=r"/not/there.*ENOENT"):
        sh("true", having({"type": "ipc", "path": "/not/there"}))


# -- user namespaces --------------------------------------------------------------------------


@pytest.mark.requires_root("to map ids at will")
def test_user_namespace(sh: Shell) -> None:
    lines = sh("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; id -G", mapped).split()
    assert lines[:6] == ["0", "100000", "65536"] * 2
    assert lines[6:] == ["0", "0", "0"]


@pytest.mark.requires_root("to map ids at will")
def test_ids_on_the_host(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        mapped(spec)
        spec.process.user = {"uid": 5, "gid": 6, "additionalGids": [7]}

    made = bundle(change, args=["sleep", "60"])
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        lines = Path(f"/proc/{container.pid}/status").read_text().splitlines()
        found = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        assert found["Uid"] == ["100005"] * 4
        assert found["Gid"] == ["100006"] * 4
        assert found["Groups"] == ["100007"]
        seen = container.exec(["id"], user="8:9", stdout=rsc.PIPE, text=True).communicate()[0]
        assert seen.startswith("uid=8 gid=9")


@pytest.mark.requires_root("to map ids at will")
def test_several_ranges(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        mapped(spec)
        ranges = [
            {"containerID": 0, "hostID": 100000, "size": 6},
            {"containerID": 10, "hostID": 200000, "size": 5},
        ]
        spec.linux.uidMappings = spec.linux.gidMappings = ranges

    shown = sh("cat /proc/self/uid_map", change).split()
    assert shown == ["0", "100000", "6", "10", "200000", "5"]


def test_mounts_in_a_user_namespace(sh: Shell, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "file").write_text("seen\n")
    # Open for the host's root alone, who is nobody in the container.
    assert (tmp_path.stat().st_mode & 0o077) == 0 or tmp_path.chmod(0o700) is None

    def change(spec: rsc.Spec) -> None:
        mapped(spec)
        bind = {"destination": "/tmp", "source": str(closed), "options": ["bind", "ro"]}
        spec.mounts = [*spec.mounts, bind]

    script = "cat /tmp/file; stat -f -c %T /proc /sys /dev/mqueue; ls /proc/self/fd | wc -l"
    assert sh(script, change).split()[:3] == ["seen", "proc", "sysfs"]


def test_a_user_that_is_not_mapped_is_named(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        mapped(spec)
        spec.process.user = {"uid": 70000, "gid": 0}

    with pytest.raises(rsc.ContainerError, match="mapped"):
        sh("true", change)


# -- what belongs to a namespace --------------------------------------------------------------


def test_time_offsets(sh: Shell) -> None:
    available("time")

    def change(spec: rsc.Spec) -> None:
        having({"type": "time"})(spec)
        spec.linux.timeOffsets = {
            "monotonic": {"secs": 86400, "nanosecs": 500},
            "boottime": {"secs": 864000},
        }

    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    lines = sh("cat /proc/self/timens_offsets /proc/uptime", change).splitlines()
    offsets = {name: (int(secs), int(nanos)) for name, secs, nanos in map(str.split, lines[:2])}
    assert offsets == {"monotonic": (86400, 500), "boottime": (864000, 0)}
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before - 1 <= float(lines[2].split()[0]) - 864000 <= after + 1


def test_names(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.hostname = "box.example"
        spec.domainname = "example.org"

    host = os.uname().nodename
    assert sh("hostname; cat /proc/sys/kernel/domainname", change).split() == [
        "box.example",
        "example.org",
    ]
    assert os.uname().nodename == host


def test_loopback_is_up_and_alone(sh: Shell) -> None:
    shown = sh("ip -o link; ip -o addr show lo").splitlines()
    assert [line.split()[1] for line in shown if "link/" in line] == ["lo:"]
    assert "UP" in shown[0]
    assert any("127.0.0.1/8" in line for line in shown)


def test_the_program_is_first_and_alone(sh: Shell) -> None:
    assert sh("echo $$ /proc/[0-9]*").split() == ["1", "/proc/1"]


def test_without_a_mount_namespace(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        having(without=("mount",))(spec)
        spec.mounts = []
        spec.root.readonly = False
        del spec.linux.maskedPaths
        del spec.linux.readonlyPaths

    made = bundle(change, args=["sleep", "60"], own_rootfs=True)
    (made.rootfs / "here").write_text("inside\n")
    before = Path("/proc/self/mountinfo").read_text()
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        seen = container.exec(["cat", "/here"], stdout=rsc.PIPE, text=True)
        assert seen.communicate()[0] == "inside\n"
        assert os.path.samefile(f"/proc/{container.pid}/root", made.rootfs)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_empty_lists_need_no_mount_namespace(bundle: BundleFactory, root: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        having(without=("mount",))(spec)
        spec.mounts = spec.linux.maskedPaths = spec.linux.readonlyPaths = []
        spec.root.readonly = False

    done = rsc.run(bundle(change), ["cat", "/proc/mounts"], root=root, capture_output=True)
    # There is no /proc of its own, nor anything else.
    assert done.returncode == 1
    assert b"/proc/mounts" in done.stderr


def test_exec_enters_all_of_them(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        mapped(spec)
        kinds = {namespace.type for namespace in spec.linux.namespaces}
        more = [{"type": kind} for kind in ("cgroup", "time") if kind not in kinds]
        spec.linux.namespaces = [*spec.linux.namespaces, *more]

    available("time")
    made = bundle(change, args=["sleep", "60"])
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        names = " ".join(name for name, _ in KINDS.values())
        script = f"for name in {names}; do readlink /proc/self/ns/$name; done"
        entered = container.exec(["sh", "-c", script], stdout=rsc.PIPE, text=True)
        links = entered.communicate()[0].split()
        place = f"/proc/{container.pid}/ns"
        assert links == [os.readlink(f"{place}/{name}") for name, _ in KINDS.values()]
