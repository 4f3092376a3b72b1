"""Mounts of a container in the host's mount namespace: it has them, and the host is as it was."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import eventually
from test_lifecycle import hook
from test_mounts import adding, bind, mountinfo, tmpfs
from test_namespaces import KINDS, available, holder
from test_namespaces import own as own_namespace

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, CommandLine, Shell

pytestmark = pytest.mark.requires_root("to mount in the host's mount namespace")

FOREVER = ["sleep", "1000"]


def on_host(*changes: Change) -> Change:
    """Without a mount namespace, and then changed."""

    def change(spec: rsc.Spec) -> None:
        spec.linux.namespaces = [n for n in spec.linux.namespaces if n.type != "mount"]
        for more in changes:
            more(spec)

    return change


def without_namespaces(spec: rsc.Spec) -> None:
    spec.linux.namespaces = []
    del spec.hostname


def capable(*names: str) -> Change:
    def change(spec: rsc.Spec) -> None:
        for kind in ("bounding", "effective", "permitted"):
            spec.process.capabilities[kind] = [*spec.process.capabilities[kind], *names]

    return change


def hooks(**hooks: list[dict[str, Any]]) -> Change:
    return lambda spec: spec.update(hooks=hooks)


def points(process: int | str = "self") -> list[str]:
    text = Path(f"/proc/{process}/mountinfo").read_text()
    return [line.split()[4] for line in text.splitlines()]


def below(place: Path, process: int | str = "self") -> list[str]:
    """Where there are mounts in a folder, as seen from there."""
    found = (os.path.relpath(point, place) for point in points(process))
    return sorted(point for point in found if not point.startswith(".."))


def of_the_host() -> list[tuple[str, str]]:
    """Mounts that a container's would cover, by number and place; others may come and go."""
    lines = map(str.split, Path("/proc/self/mountinfo").read_text().splitlines())
    return [(line[0], line[4]) for line in lines if line[4] in {"/", "/proc", "/sys", "/dev"}]


@contextlib.contextmanager
def covers_nothing(root: Path) -> Iterator[None]:
    """All mounts that come are in the folder of states, and they go."""
    before = of_the_host()
    yield
    assert of_the_host() == before
    assert below(root) == []


# -- what it has ------------------------------------------------------------------------------


def test_its_namespaces_are_the_hosts(sh: Shell) -> None:
    for kind, (name, _) in KINDS.items():
        available(kind)
        shown = sh(f"readlink /proc/self/ns/{name}", on_host(without_namespaces))
        assert shown.strip() == own_namespace(kind)


def test_the_default_mounts(bundle: BundleFactory, root: Path, box: str, cli: CommandLine) -> None:
    made, host = bundle(on_host(), args=FOREVER), of_the_host()
    with covers_nothing(root):
        with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
            inside = mountinfo(Path(f"/proc/{container.pid}/mountinfo").read_text())
            assert {"/proc", "/dev", "/dev/pts", "/dev/shm", "/sys"} <= set(inside)
            assert {mount.fstype for mount in inside.values()} > {"proc", "devpts", "sysfs"}
            assert of_the_host() == host
            tree = root / box / "rootfs"
            # On the folder there are two: the one that keeps the others apart, and the rootfs.
            assert below(tree)[:3] == [".", ".", "dev"]
            assert {str(root / point) for point in below(root)} == {
                os.path.normpath(tree / point) for point in below(tree)
            }
            assert json.loads(cli("state", box).stdout)["rootfs"] == str(tree)
        cli("run", "-b", made.path, "-d", box, capture_output=False, stdout=subprocess.DEVNULL)
        assert f"{box}/rootfs/proc" in below(root)
        cli("delete", "--force", box)


def test_devices_and_hidden_paths(sh: Shell) -> None:
    def change(spec: rsc.Spec) -> None:
        adding(tmpfs(), tmpfs(destination="/run"))(spec)
        spec.linux.maskedPaths = ["/proc/uptime", "/sys/kernel"]
        spec.linux.readonlyPaths = ["/proc/sys"]
        spec.linux.devices = [
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600}
        ]
        spec.process.cwd = "/run/made/here"

    script = """
    pwd; stat -c '%n %F %a' /dev/null /dev/mine; readlink /dev/stdin
    wc -c < /proc/uptime; ls /sys/kernel
    echo 60 > /proc/sys/vm/swappiness || touch /file || touch /tmp/file
    """
    assert sh(script, on_host(change)).splitlines() == [
        "/run/made/here",
        "/dev/null character special file 666",
        "/dev/mine character special file 600",
        "/proc/self/fd/0",
        "0",
    ]
    assert Path("/proc/uptime").read_text()


@pytest.mark.parametrize("word", ["slave", "rslave", "private", "rprivate", "unbindable"])
def test_rootfs_propagation(sh: Shell, word: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.rootfsPropagation = word

    shown = mountinfo(sh("cat /proc/self/mountinfo", on_host(change)))
    assert ("unbindable" in shown["/"].propagation) == (word == "unbindable")
    # A slave has a master where the host's own is shared.
    assert {"master"} >= {p for m in shown.values() for p in m.propagation} - {"unbindable"}


def test_a_terminal(bundle: BundleFactory, root: Path, box: str) -> None:
    place = bundle(on_host(), args=["sh", "-c", "tty; readlink -f /dev/console"], terminal=True)
    with rsc.Container.run(box, place, terminal=True, root=root) as c:
        assert c.init.terminal is not None
        assert c.init.terminal.readall() == b"/dev/pts/0\r\n/dev/console\r\n"


def test_other_ids(sh: Shell, tmp_path: Path) -> None:
    volume = bind(tmp_path, "idmap")
    ids = [{"containerID": 0, "hostID": 1000, "size": 1}]
    volume["uidMappings"] = volume["gidMappings"] = ids
    assert sh("stat -c %u /tmp", on_host(adding(volume))) == "1000\n"


# -- exec -------------------------------------------------------------------------------------


def test_exec_sees_the_mounts(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine
) -> None:
    made = bundle(on_host(adding(tmpfs())), args=["sh", "-c", "echo it > /tmp/it; sleep 1000"])
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        path = Path(f"/proc/{container.pid}/root/tmp/it")
        eventually(lambda: path.exists() and path.read_text(), "the file")
        asked = ["cat", "/tmp/it", "/proc/self/comm"]
        assert container.exec(asked, stdout=rsc.PIPE).communicate()[0] == b"it\ncat\n"
        assert cli("exec", box, *asked).stdout == "it\ncat\n"
        with container.exec(["tty"], terminal=True) as process:
            assert process.terminal.readall() == b"/dev/pts/0\r\n"


def test_exec_where_init_has_changed_its_root(bundle: BundleFactory, root: Path, box: str) -> None:
    with pytest.warns(rsc.ConfigWarning, match="CAP_SYS_CHROOT is enough to leave the rootfs"):
        made = rsc.Container.run(
            box,
            bundle(
                on_host(capable("CAP_SYS_CHROOT")), args=["chroot", "/bin", "/busybox", *FOREVER]
            ),
            root=root,
            stdin=rsc.DEVNULL,
        )
    with made as container:
        moved = Path(f"/proc/{container.pid}/root/busybox")
        eventually(moved.exists, "the other root")
        assert container.exec(["ls", "/proc/self/comm"], stdout=rsc.DEVNULL).wait() == 0


# -- hooks ------------------------------------------------------------------------------------


def test_hooks_are_told_where_the_mounts_are(
    bundle: BundleFactory, root: Path, box: str, tmp_path: Path
) -> None:
    look = r'tree=$(sed "s/.*\"rootfs\":\"\([^\"]*\).*/\1/"); '
    look += f'echo "$1 $tree $(ls -d $tree/proc/self $tree)" >> {tmp_path}/seen'
    points = ["createRuntime", "createContainer", "poststart", "poststop"]
    each = {
        point: [{"path": "/bin/sh", "args": ["sh", "-c", look, "sh", point]}] for point in points
    }
    made = bundle(on_host(hooks(**each)), args=FOREVER)
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL):
        pass
    tree = root / box / "rootfs"
    seen = (tmp_path / "seen").read_text().split()
    expected = [
        word for point in points[:3] for word in (point, tree, tree, tree / "proc" / "self")
    ]
    # By the last, what the volumes are on may be taken away.
    assert seen == [*map(str, expected), "poststop", str(tree)]


def test_a_hook_may_mount(bundle: BundleFactory, root: Path, box: str) -> None:
    mount = hook(f"mount -t tmpfs hooked {root}/{box}/rootfs/home")
    made = bundle(on_host(hooks(createRuntime=[mount])), args=FOREVER)
    with covers_nothing(root), rsc.Container.run(box, made, root=root) as container:
        shown = container.exec(["cat", "/proc/mounts"], stdout=rsc.PIPE).communicate()[0]
        assert b"hooked /home tmpfs" in shown


# -- nothing is left --------------------------------------------------------------------------


def broken(spec: rsc.Spec) -> None:
    spec.mounts = [*spec.mounts, {"destination": "/x", "type": "nosuchfs", "source": "x"}]


FAILURES = {
    "mount": (broken, ["true"]),
    "program": (lambda _: None, ["/no/such"]),
    "hook": (hooks(createContainer=[hook("exit 3")]), ["true"]),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_of_a_container_that_could_not_be_made(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine, failure: str
) -> None:
    change, args = FAILURES[failure]
    made = bundle(on_host(change), args=args)
    with covers_nothing(root):
        with pytest.raises(rsc.ContainerError):
            rsc.Container.run(box, made, root=root)
        assert not (root / box).exists()
        assert cli("run", "-b", made.path, box, check=False).returncode != 0
        assert not (root / box).exists()


@pytest.mark.parametrize("how", ["cli", "python"])
def test_of_one_whose_maker_was_killed(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine, how: str
) -> None:
    made = bundle(on_host(hooks(createRuntime=[hook("kill -9 $PPID; sleep 0.1")])), args=["true"])
    with covers_nothing(root):
        if how == "cli":
            assert cli("create", "-b", made.path, box, check=False).returncode == -9
            assert f"{box}/rootfs/proc" in below(root)
        else:
            with pytest.raises(rsc.ContainerError):
                rsc.Container.create(box, made, root=root)
        for _ in range(2):
            cli("delete", "--force", box)
        assert list(root.iterdir()) == []


def test_of_one_that_was_killed(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine
) -> None:
    made = bundle(on_host(), args=FOREVER)
    with covers_nothing(root):
        cli("create", "-b", made.path, box, capture_output=False, stdout=subprocess.DEVNULL)
        os.kill(json.loads(cli("state", box).stdout)["pid"], 9)
        eventually(lambda: json.loads(cli("state", box).stdout)["status"] == "stopped", "its end")
        assert f"{box}/rootfs/proc" in below(root)
        cli("delete", box)


def test_in_namespaces_made_meanwhile(bundle: BundleFactory, root: Path, box: str) -> None:
    container = rsc.Container.run(box, bundle(on_host(), args=FOREVER), root=root)
    with container, holder("--mount") as other:
        assert f"{box}/rootfs/proc" in below(root, other)
        container.delete(force=True)
        assert below(root, other) == []


def test_below_a_volume_all_stays(bundle: BundleFactory, root: Path, tmp_path: Path) -> None:
    """Neither the end of the container nor an unmount in it is that of the host's mounts."""
    volume, inner = tmp_path / "volume", tmp_path / "volume" / "inner"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "--make-shared", "tmpfs", volume], check=True)
    try:
        inner.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inner], check=True)
        for options in (
            ["rbind"],
            ["rbind", "private"],
            ["rbind", "rslave"],
            ["rbind", "rprivate"],
        ):
            change = on_host(adding(bind(volume, *options)), capable("CAP_SYS_ADMIN"))
            script = "umount /tmp/inner && mkdir -p /tmp/more && mount -t tmpfs x /tmp/more"
            done = rsc.run(bundle(change), ["sh", "-c", script], root=root)
            assert done.returncode == 0
            assert below(volume) == [".", "inner"]
            rsc.run(bundle(change), ["true"], root=root, check=True)
            assert below(volume) == [".", "inner"]
    finally:
        subprocess.run(["umount", "-R", "-l", volume], check=True)


@pytest.mark.parametrize("rootfs", ["busybox", "/"])
def test_on_a_host_that_shares_all(
    bundle: BundleFactory, cli: CommandLine, box: str, tmp_path: Path, rootfs: str
) -> None:
    """As systemd has it, with another namespace in which all of the host's mounts appear."""

    def change(spec: rsc.Spec) -> None:
        adding(tmpfs(), bind("/", "rbind", destination="/mnt"))(spec)
        if rootfs == "/":
            spec.root.path = "/"

    made = bundle(on_host(change), args=["true"], own_rootfs=rootfs != "/")
    (Path(made.path) / "rootfs" / "mnt").mkdir(parents=True, exist_ok=True)
    seen = {name: tmp_path / name for name in ("before", "host", "peer", "inside", "after")}
    start = " ".join(cli.argv("create", "-b", os.fspath(made), box))
    stop = " ".join(cli.argv("delete", "--force", box))
    pid = f"$(cat {tmp_path}/pid)"
    # Shared among themselves: with the host that this runs on it must not be.
    steps = f"""
    mount --make-rshared /
    unshare --mount --propagation unchanged sleep 1000 & peer=$!
    until test $(readlink /proc/$peer/ns/mnt) != $(readlink /proc/self/ns/mnt); do :; done
    cat /proc/self/mountinfo /proc/$peer/mountinfo > {seen["before"]}
    {start} --pid-file {tmp_path}/pid </dev/null >/dev/null || exit 1
    cat /proc/self/mountinfo > {seen["host"]}; cat /proc/$peer/mountinfo > {seen["peer"]}
    cat /proc/{pid}/mountinfo > {seen["inside"]}
    {stop}
    cat /proc/self/mountinfo /proc/$peer/mountinfo > {seen["after"]}
    kill $peer
    """
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", steps]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = {name: file.read_text().splitlines() for name, file in seen.items()}
    assert lines["after"] == lines["before"]
    old = {line.split()[4] for line in lines["before"]}
    tree = str(cli.root / box / "rootfs")
    added = [line for line in lines["host"] if line.split()[4] not in old]
    assert f"{tree}/proc" in {line.split()[4] for line in added}
    assert {line.split()[4] for line in added if not line.split()[4].startswith(tree)} == set()
    # Of the container, the other namespace sees an empty folder on itself.
    assert [line.split()[4] for line in lines["peer"] if line.split()[4] not in old] == [tree]
    groups = set(re.findall(r" shared:\d+ ", "\n".join(lines["before"])))
    assert [
        line for line in lines["inside"] if groups & set(re.findall(r" shared:\d+ ", line))
    ] == []
    # What is bound from the host's whole tree has not the container's own in it.
    assert [line for line in lines["inside"] if f"{tree}/" in line.split()[4]] == []


# -- what cannot be had -----------------------------------------------------------------------


def test_in_a_user_namespace(bundle: BundleFactory) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.linux.namespaces = [{"type": "pid"}, {"type": "user"}]
        spec.linux.uidMappings = spec.linux.gidMappings = [
            {"containerID": 0, "hostID": 100000, "size": 65536}
        ]
        del spec.hostname

    with pytest.raises(rsc.SpecError, match="in a user namespace nothing can be mounted") as caught:
        bundle(on_host(change)).spec.explain()
    assert caught.value.path == "$.linux.namespaces"
    assert caught.value.value == '["user", "pid"]'
    assert "$.mounts" in str(caught.value)


def test_peers_of_the_hosts_mounts(bundle: BundleFactory) -> None:
    for word in ("shared", "rshared"):
        with pytest.raises(rsc.SpecError, match="needs a mount namespace") as caught:
            bundle(on_host(adding(bind("/srv", "ro", word)))).spec.explain()
        assert re.fullmatch(r"\$\.mounts\[\d+\]\.options\[2\]", caught.value.path)
        spec = bundle(on_host()).spec
        spec.linux.rootfsPropagation = word
        with pytest.raises(rsc.SpecError, match="needs a mount namespace") as caught:
            spec.explain()
        assert caught.value.path == "$.linux.rootfsPropagation"
