"""Namespaces joined beside others: who owns the new ones, and in which order it can be done."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import ORDINARY
from conftest import user_namespace as mapped
from test_namespaces import KINDS, available, having, holder

import rscontainer as rsc
from rscontainer import _binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, CommandLine, Shell

NS_GET_USERNS = 0xB701
# The ordinary user that a test is, or becomes, and how.
USER = os.geteuid() if ORDINARY else 1000
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
if ORDINARY:
    AS_USER = []
NEW = ["pid", "ipc", "uts", "network", "mount", "cgroup", "time"]


@contextlib.contextmanager
def user_namespace(*flags: str) -> Iterator[int]:
    """A process in a user namespace of its own that has ids; its number."""
    if ORDINARY:
        # Its one id; to give it more takes a privilege outside.
        with holder("--user", "--map-root-user", *flags) as pid:
            yield pid
        return
    with holder("--user", *flags) as pid:
        for file in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{file}").write_text("0 100000 65536\n")
        yield pid


def joining(pid: int, *more: dict[str, Any], new: tuple[str, ...] = ("pid",)) -> Change:
    """Joins the user namespace of ``pid``, with ``new`` ones and ``more`` beside it."""
    kinds = [{"type": kind} for kind in new]

    def change(spec: rsc.Spec) -> None:
        having({"type": "user", "path": f"/proc/{pid}/ns/user"}, *kinds, *more)(spec)
        # An ordinary user's has them: they are the joined one's to give.
        spec.linux.uidMappings = spec.linux.gidMappings = []

    return change


def owner(pid: int, kind: str) -> str:
    """The user namespace that owns a namespace (ioctl_ns(2))."""
    with open(f"/proc/{pid}/ns/{KINDS[kind][0]}", "rb") as namespace:
        found = fcntl.ioctl(namespace, NS_GET_USERNS)
    try:
        return f"user:[{os.fstat(found).st_ino}]"
    finally:
        os.close(found)


def test_new_namespaces_are_owned_by_the_joined_one(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    new = [kind for kind in NEW if Path(f"/proc/self/ns/{KINDS[kind][0]}").exists()]
    with user_namespace() as pid:
        joined = os.readlink(f"/proc/{pid}/ns/user")
        made = bundle(joining(pid, new=tuple(new)), args=["sleep", "600"])
        with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
            # What exec and signals go to is the program itself, and nothing on the way to it.
            assert Path(f"/proc/{container.pid}/comm").read_text() == "sleep\n"
            assert os.readlink(f"/proc/{container.pid}/ns/user") == joined
            assert {kind: owner(container.pid, kind) for kind in new} == dict.fromkeys(new, joined)
            shown = container.exec(["sh", "-c", "echo $$ $(cat /proc/1/comm)"], stdout=rsc.PIPE)
            number, name = shown.communicate()[0].split()
            assert int(number) > 1
            assert name == b"sleep"


def test_the_program_is_the_first_process(sh: Shell) -> None:
    with user_namespace() as pid:
        script = "echo $$; cat /proc/self/uid_map; id -u; ls -d /proc/[0-9]*"
        lines = sh(script, joining(pid)).splitlines()
        assert lines[0] == "1"
        assert lines[1].split() == (["0", str(USER), "1"] if ORDINARY else ["0", "100000", "65536"])
        assert lines[2] == "0"
        assert lines[3:] == ["/proc/1"]


def test_its_end_is_told(bundle: BundleFactory, root: Path, unique_id: Callable[[], str]) -> None:
    with user_namespace() as pid:
        made = bundle(joining(pid), args=["sh", "-c", "exit 7"])
        container = rsc.Container.run(unique_id(), made, root=root, stdin=rsc.DEVNULL)
        assert container.wait(timeout=60) == 7
        container.delete()


def test_created_then_started_by_the_command_line(
    bundle: BundleFactory, cli: CommandLine, box: str
) -> None:
    with user_namespace() as pid:
        made = bundle(joining(pid), args=["sleep", "600"])
        cli("create", "-b", os.fspath(made), box, stdout=subprocess.DEVNULL, capture_output=False)
        try:
            cli("start", box)
            assert cli("exec", box, "cat", "/proc/1/comm").stdout == "sleep\n"
        finally:
            cli("delete", "--force", box)


def test_time_offsets_in_it(sh: Shell) -> None:
    available("time")
    with user_namespace() as pid:

        def change(spec: rsc.Spec) -> None:
            joining(pid, new=("pid", "time"))(spec)
            spec.linux.timeOffsets = {"boottime": {"secs": 8640000}}

        uptime = float(Path("/proc/uptime").read_text().split()[0])
        assert float(sh("cat /proc/uptime", change).split()[0]) >= uptime + 8640000


def test_oom_score_in_it(sh: Shell) -> None:
    with user_namespace() as pid:

        def change(spec: rsc.Spec) -> None:
            joining(pid)(spec)
            spec.process.oomScoreAdj = 700

        assert sh("cat /proc/self/oom_score_adj", change) == "700\n"


@pytest.mark.requires_root("to make namespaces outside of a container")
@pytest.mark.parametrize("kind", ["network", "ipc", "uts"])
def test_beside_one_that_the_host_owns(sh: Shell, kind: str) -> None:
    name, flag = KINDS[kind]
    # Joined first, or the user namespace would have taken the privilege to join it.
    with holder(flag) as other, user_namespace() as pid:
        path = f"/proc/{other}/ns/{name}"

        def change(spec: rsc.Spec) -> None:
            joining(pid, {"type": kind, "path": path})(spec)
            # What lives in a namespace is mounted by who owns that.
            spec.mounts = [m for m in spec.mounts if m.type not in {"sysfs", "cgroup", "mqueue"}]
            if kind == "uts":
                del spec.hostname

        script = f"readlink /proc/self/ns/{name}; readlink /proc/self/ns/user"
        links = sh(script, change).split()
        assert links == [os.readlink(path), os.readlink(f"/proc/{pid}/ns/user")]


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup"])
def test_beside_one_that_it_owns(sh: Shell, kind: str) -> None:
    name, flag = KINDS[kind]
    with user_namespace(flag) as pid:
        path = f"/proc/{pid}/ns/{name}"
        change = joining(pid, {"type": kind, "path": path})
        script = f"readlink /proc/self/ns/{name}; readlink /proc/self/ns/user"
        assert sh(script, change).split() == [
            os.readlink(path),
            os.readlink(f"/proc/{pid}/ns/user"),
        ]


def test_all_of_a_container(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str]
) -> None:
    def own(spec: rsc.Spec) -> None:
        having(without=("user",))(spec)
        mapped(spec)

    kinds = ["user", "pid", "network", "ipc", "uts"]
    first_bundle = bundle(own, args=["sleep", "600"])
    with rsc.Container.run(unique_id(), first_bundle, root=root, stdin=rsc.DEVNULL) as first:
        paths = {kind: f"/proc/{first.pid}/ns/{KINDS[kind][0]}" for kind in kinds}

        def joined(spec: rsc.Spec) -> None:
            having(*({"type": kind, "path": path} for kind, path in paths.items()))(spec)
            spec.linux.uidMappings = spec.linux.gidMappings = []

        second_bundle = bundle(joined, args=["sleep", "601"])
        with rsc.Container.run(unique_id(), second_bundle, root=root, stdin=rsc.DEVNULL) as second:
            for kind, path in paths.items():
                beside = f"/proc/{second.pid}/ns/{KINDS[kind][0]}"
                assert os.readlink(beside) == os.readlink(path), kind
            assert os.readlink(f"/proc/{second.pid}/ns/mnt") != os.readlink(
                f"/proc/{first.pid}/ns/mnt"
            )
            seen = second.exec(["sh", "-c", "cat /proc/[0-9]*/comm"], stdout=rsc.PIPE)
            assert seen.communicate()[0].split().count(b"sleep") == 2


def test_what_cannot_be_joined_is_named(sh: Shell) -> None:
    for path in ("/proc/self/ns/uts", "/proc/self/ns/user"):
        with pytest.raises(rsc.SystemCallError, match=r"join user namespace.*EINVAL") as caught:
            sh("true", having({"type": "user", "path": path}, {"type": "pid"}))
        assert "$.linux.namespaces" in str(caught.value)
        assert "that this process is in" in str(caught.value)


def test_an_ordinary_user_joins_its_own() -> None:
    with tempfile.TemporaryDirectory(prefix="rsc-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        made = rsc.Bundle.create(place / "bundle", rootfs="busybox")
        run = [_binary.binary(), "--root", str(place / "states"), "run"]
        flags = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--net", "--uts"]
        held = [*AS_USER, "unshare", *flags, "sh", "-c", "echo ready; exec sleep 600"]
        with subprocess.Popen(held, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                if process.stdout.readline() != "ready\n":
                    pytest.skip("no user namespaces for ordinary users on this host")
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
                pid = int(children.read_text())
                for joined in (("user",), ("user", "pid", "network", "uts")):
                    spec = rsc.Spec.default(rootless=True)
                    paths = [
                        {"type": kind, "path": f"/proc/{pid}/ns/{KINDS[kind][0]}"}
                        for kind in joined
                    ]
                    having(*paths, without=("cgroup",))(spec)
                    spec.mounts = [m for m in spec.mounts if m.type not in {"cgroup", "sysfs"}]
                    if "uts" in joined:
                        del spec.hostname
                    spec.linux.uidMappings = spec.linux.gidMappings = []
                    spec.process.terminal = False
                    links = "; ".join(f"readlink /proc/self/ns/{KINDS[kind][0]}" for kind in joined)
                    spec.process.args = ["sh", "-c", f"id -u; echo $$; {links}"]
                    spec.save(made.rootfs.parent / "config.json")
                    for entry in (place, *place.rglob("*")):
                        os.chown(entry, USER, USER, follow_symlinks=False)
                    done = subprocess.run(
                        [*AS_USER, *run, "-b", os.fspath(made), "box"],
                        check=False,
                        capture_output=True,
                        text=True,
                        stdin=subprocess.DEVNULL,
                        timeout=60,
                    )
                    lines = done.stdout.split()
                    assert lines[:1] == ["0"], done.stderr
                    assert (lines[1] == "1") == ("pid" not in joined)
                    assert lines[2:] == [os.readlink(path["path"]) for path in paths]
            finally:
                process.kill()


# -- mount namespaces -------------------------------------------------------------------------


@pytest.mark.requires_root("to make namespaces outside of a container")
def test_a_joined_mount_namespace(bundle: BundleFactory, root: Path, box: str) -> None:
    with holder("--mount") as pid:
        path = f"/proc/{pid}/ns/mnt"
        made = bundle(having({"type": "mount", "path": path}), args=["sleep", "600"])
        with pytest.warns(rsc.ConfigWarning, match="keeps them after its end"):
            container = rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL)
        with container:
            assert os.readlink(f"/proc/{container.pid}/ns/mnt") == os.readlink(path)
            seen = container.exec(["cat", "/proc/1/comm"], stdout=rsc.PIPE)
            assert seen.communicate()[0] == b"sleep\n"


def test_a_joined_mount_namespace_is_warned_of(bundle: BundleFactory, cli: CommandLine) -> None:
    made = bundle(having({"type": "mount", "path": "/proc/1/ns/mnt"}))
    shown = cli("explain", os.fspath(made)).stdout
    assert "warning: $.linux.namespaces[" in shown
    assert "keeps them after its end" in shown


def test_the_mount_namespace_of_the_runtime_is_refused(
    bundle: BundleFactory, cli: CommandLine, box: str
) -> None:
    made = bundle(having({"type": "mount", "path": "/proc/self/ns/mnt"}), args=["true"])
    # In one that is nobody's, in case it is not refused.
    wrapper = [] if ORDINARY else ["unshare", "--mount"]
    argv = [*wrapper, *cli.argv("run", "-b", os.fspath(made), box)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "join mount namespace" in done.stderr
    assert "it is the runtime's own" in done.stderr
    assert "$.linux.namespaces[" in done.stderr


def test_an_ordinary_user_enters_a_pid_namespace() -> None:
    with tempfile.TemporaryDirectory(prefix="rsc-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        made = rsc.Bundle.create(place / "bundle", rootfs="busybox")
        spec = rsc.Spec.default(rootless=True)
        having(without=("cgroup",))(spec)
        spec.mounts = [m for m in spec.mounts if m.type != "cgroup"]
        ids = [{"containerID": 0, "hostID": USER, "size": 1}]
        spec.linux.uidMappings = spec.linux.gidMappings = ids
        spec.process.terminal = False
        spec.process.args = ["sleep", "600"]
        spec.save(made.rootfs.parent / "config.json")
        for entry in (place, *place.rglob("*")):
            os.chown(entry, USER, USER, follow_symlinks=False)
        program = [*AS_USER, _binary.binary(), "--root", str(place / "states")]

        def call(*args: str) -> subprocess.CompletedProcess[bytes]:
            # No pipe: a container that is created holds on to it.
            with (place / "out").open("wb") as out:
                done = subprocess.run(
                    [*program, *args],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    timeout=60,
                )
            done.stdout = (place / "out").read_bytes()
            return done

        created = call("create", "-b", os.fspath(made), "box")
        if b"max_user_namespaces" in created.stdout or b"clone3" in created.stdout:
            pytest.skip(f"no user namespaces for ordinary users on this host: {created.stdout!r}")
        try:
            assert call("start", "box").returncode == 0
            assert call("exec", "box", "cat", "/proc/1/comm").stdout == b"sleep\n"
            assert call("exec", "box", "sh", "-c", "exit 5").returncode == 5
        finally:
            call("delete", "--force", "box")
