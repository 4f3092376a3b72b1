"""Propagation: which mounts reach the host, which come from it, and that no other does."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ORDINARY
from test_mounts import adding, bind, mountinfo, tmpfs

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, Change, CommandLine, Shell

WORDS = ["", "shared", "slave", "private", "unbindable"]
WORDS += [f"r{word}" for word in WORDS[1:]]


def points() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def group(text: str, point: str, kind: str) -> str | None:
    """The peer group of a mount, or of its master."""
    for line in text.splitlines():
        if line.split()[4] == point and (found := re.search(rf" {kind}:(\d+) ", line)):
            return found[1]
    return None


def may_mount(spec: rsc.Spec) -> None:
    for kind in ("bounding", "effective", "permitted"):
        spec.process.capabilities[kind] = [*spec.process.capabilities[kind], "CAP_SYS_ADMIN"]


def with_root(word: str, *mounts: dict[str, Any]) -> Change:
    def change(spec: rsc.Spec) -> None:
        may_mount(spec)
        adding(*mounts)(spec)
        if word:
            spec.linux.rootfsPropagation = word

    return change


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A shared mount of the host's, with a folder in it to mount on."""
    if ORDINARY:
        pytest.skip("needs root: to mount on the host")
    place = tmp_path / "volume"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "--make-shared", "tmpfs", place], check=True)
    (place / "in").mkdir()
    yield place
    subprocess.run(["umount", "-R", "-l", place], check=True)


@pytest.mark.parametrize("word", ["shared", "rshared"])
@pytest.mark.parametrize("option", ["shared", "rshared"])
def test_a_shared_volume_reaches_the_host(sh: Shell, volume: Path, word: str, option: str) -> None:
    change = with_root(word, bind(volume, "rbind", option))
    shown = sh("mount -t tmpfs inner /tmp/in && cat /proc/self/mountinfo", change)
    host = Path("/proc/self/mountinfo").read_text()
    assert group(shown, "/tmp", "shared") == group(host, str(volume), "shared") is not None
    assert mountinfo(host)[str(volume / "in")].source == "inner"


def test_a_shared_volume_hears_of_the_host(
    bundle: BundleFactory, root: Path, box: str, volume: Path
) -> None:
    made = bundle(with_root("shared", bind(volume, "rbind", "rshared")), args=["sleep", "600"])
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume / "in"], check=True)
        (volume / "in" / "file").touch()
        assert container.exec(["ls", "/tmp/in"], stdout=rsc.PIPE).communicate()[0] == b"file\n"
        container.exec(["umount", "/tmp/in"]).wait()
    assert str(volume / "in") not in points()


def test_a_volume_beside_the_rootfs(sh: Shell, busybox: rsc.Bundle, volume: Path) -> None:
    subprocess.run(["cp", "-a", os.fspath(busybox), volume / "bundle"], check=True)

    def change(spec: rsc.Spec) -> None:
        with_root("shared", bind(volume, "rbind", "rshared"))(spec)
        spec.root.path = str(volume / "bundle" / "rootfs")

    sh("mount -t tmpfs inner /tmp/in", change)
    assert [point for point in points() if point.startswith(str(volume))] == [
        str(volume),
        str(volume / "in"),
    ]


OPTIONS = [
    # rootfsPropagation, option, whether it reaches the host, whether it hears of the host
    ("", "rshared", False, True),
    ("rslave", "rshared", False, True),
    ("rprivate", "rshared", False, False),
    ("slave", "rshared", True, True),
    ("private", "shared", True, True),
    ("private", "rslave", False, True),
    ("private", "rw", False, True),
    ("rprivate", "rslave", False, False),
    ("shared", "rslave", False, True),
    ("shared", "rprivate", False, False),
    ("shared", "unbindable", False, False),
    ("unbindable", "rslave", False, True),
]


@pytest.mark.parametrize(("word", "option", "reaches", "hears"), OPTIONS)
def test_who_hears_of_whom(
    bundle: BundleFactory,
    root: Path,
    box: str,
    volume: Path,
    word: str,
    option: str,
    reaches: bool,
    hears: bool,
) -> None:
    (volume / "out").mkdir()
    made = bundle(with_root(word, bind(volume, "rbind", option)), args=["sleep", "600"])
    with rsc.Container.run(box, made, root=root, stdin=rsc.DEVNULL) as container:
        assert container.exec(["mount", "-t", "tmpfs", "t", "/tmp/in"]).wait() == 0
        assert (str(volume / "in") in points()) == reaches
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume / "out"], check=True)
        seen = Path(f"/proc/{container.pid}/mountinfo").read_text()
        assert (" /tmp/out " in seen) == hears


ROOTS = [
    ("", {"master"}),
    ("shared", {"shared", "master"}),
    ("rshared", {"shared", "master"}),
    ("slave", {"master"}),
    ("private", set()),
    ("rprivate", set()),
    ("unbindable", {"unbindable"}),
    ("runbindable", {"unbindable"}),
]


@pytest.mark.parametrize(("word", "tags"), ROOTS)
def test_the_root_itself(
    sh: Shell, busybox: rsc.Bundle, volume: Path, word: str, tags: set[str]
) -> None:
    subprocess.run(["cp", "-a", os.fspath(busybox), volume / "bundle"], check=True)

    def change(spec: rsc.Spec) -> None:
        with_root(word)(spec)
        spec.root.path = str(volume / "bundle" / "rootfs")

    shown = sh("cat /proc/self/mountinfo", change)
    assert mountinfo(shown)["/"].propagation == tags
    # A group of its own: not the host's.
    host = Path("/proc/self/mountinfo").read_text()
    assert group(shown, "/", "shared") != group(host, str(volume), "shared")
    below = mountinfo(shown)["/proc"].propagation
    assert below == {"rshared": {"shared"}, "runbindable": {"unbindable"}}.get(word, below)


def test_the_host_is_heard_of_in_a_slave_root(
    bundle: BundleFactory, root: Path, box: str, busybox: rsc.Bundle, volume: Path
) -> None:
    subprocess.run(["cp", "-a", os.fspath(busybox), volume / "bundle"], check=True)

    def change(spec: rsc.Spec) -> None:
        with_root("slave")(spec)
        spec.root.path = str(volume / "bundle" / "rootfs")

    with rsc.Container.run(
        box, bundle(change, args=["sleep", "600"]), root=root, stdin=rsc.DEVNULL
    ) as container:
        place = volume / "bundle" / "rootfs" / "home"
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
        assert " /home " in Path(f"/proc/{container.pid}/mountinfo").read_text()


def test_unbindable_cannot_be_bound(sh: Shell) -> None:
    script = "mount -t tmpfs t /tmp && mkdir /tmp/a && mount --bind /etc /tmp/a"
    sh(script, with_root("private"))
    assert sh(f"{script} || echo refused", with_root("unbindable")).strip() == "refused"


@pytest.mark.requires_root("to make namespaces outside of a container")
@pytest.mark.parametrize("word", WORDS)
def test_nothing_else_reaches_a_host_that_shares_all(
    bundle: BundleFactory, cli: CommandLine, box: str, tmp_path: Path, word: str
) -> None:
    """In a mount namespace whose every mount is shared, as systemd has it."""
    host_device = bind("/dev/zero", destination="/tmp/zero")
    change = with_root(word, tmpfs(), host_device, tmpfs(destination="/var/x"))
    made = bundle(change, args=["cat", "/proc/self/mountinfo"], own_rootfs=True)
    before, after, within = (tmp_path / name for name in ("before", "after", "within"))
    run = " ".join(cli.argv("run", "-b", os.fspath(made), box))
    look = "cat /proc/self/mountinfo"
    # Private first, or its mounts would be peers of the real host's where those are shared.
    steps = f"mount --make-rshared /; {look} >{before}; {run} >{within}; {look} >{after}"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", steps]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert " /proc " in within.read_text(), done.stderr
    assert " shared:" in before.read_text()
    assert after.read_text() == before.read_text()
    groups = set(re.findall(r" shared:\d+ ", before.read_text()))
    # Only what is bound without a word of its own remains a peer, and only where that is asked; not
    # the null device over masked paths, where something may be put over it in turn.
    peers = {
        line.split()[4]
        for line in within.read_text().splitlines()
        if groups & set(re.findall(r" shared:\d+ ", line))
    }
    assert peers == ({"/tmp/zero"} if word.endswith("shared") else set())


def test_nothing_leaves_a_user_namespace(sh: Shell, volume: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        with_root("shared", bind(volume, "rbind", "rshared"))(spec)
        spec.linux.namespaces = [*spec.linux.namespaces, {"type": "user"}]
        ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        spec.linux.uidMappings = spec.linux.gidMappings = ids

    # The kernel lets nothing out of another user namespace's mounts (mount_namespaces(7)).
    shown = sh("mount -t tmpfs inner /tmp/in && cat /proc/self/mountinfo", change)
    host = Path("/proc/self/mountinfo").read_text()
    assert str(volume / "in") not in mountinfo(host)
    assert group(shown, "/tmp", "master") == group(host, str(volume), "shared")
