"""Devices: the default ones, those asked for, and what may be done with them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ORDINARY, user_namespace

import rscontainer as rsc

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import BundleFactory, Change, Shell


DEFAULT = {
    "full": "1:7",
    "null": "1:3",
    "random": "1:8",
    "tty": "5:0",
    "urandom": "1:9",
    "zero": "1:5",
}


def asking(*devices: dict[str, Any], rules: list[dict[str, Any]] | None = None) -> Change:
    def change(spec: rsc.Spec) -> None:
        spec.linux.devices = list(devices)
        if rules is not None:
            spec.linux.resources.devices = rules

    return change


@pytest.mark.parametrize("change", [None, user_namespace])
def test_default_devices(sh: Shell, change: Change | None) -> None:
    names = " ".join(DEFAULT)
    script = f"for name in {names}; do stat -c '%n %F %a %t:%T' /dev/$name; done"
    expected = [
        f"/dev/{name} character special file 666 {number}" for name, number in DEFAULT.items()
    ]
    assert sh(script, change).splitlines() == expected


def test_default_links(sh: Shell) -> None:
    script = "cd /dev; for name in fd stdin stdout stderr ptmx; do readlink $name; done"
    assert sh(script).splitlines() == [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
    ]


def test_nothing_else_is_there(sh: Shell) -> None:
    known = {*DEFAULT, "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm", "mqueue"}
    assert set(sh("ls -A /dev").split()) == known


@pytest.mark.parametrize("change", [None, user_namespace])
def test_default_devices_work(sh: Shell, change: Change | None) -> None:
    script = """
        echo lost >/dev/null; head -c 3 /dev/zero | od -An -tx1
        head -c 8 /dev/urandom | wc -c
        echo x 2>/dev/null >/dev/full || echo full
    """
    assert sh(script, change).split() == ["00", "00", "00", "8", "full"]


@pytest.mark.requires_root("to make devices")
def test_asked_devices(sh: Shell) -> None:
    change = asking(
        {
            "path": "/dev/fuse",
            "type": "c",
            "major": 10,
            "minor": 229,
            "fileMode": 0o640,
            "uid": 3,
            "gid": 4,
        },
        {"path": "/dev/deep/loop", "type": "b", "major": 7, "minor": 0},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 3},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o444},
    )
    script = (
        "cd /dev; stat -c '%n %F %a %u:%g %t:%T' fuse deep/loop unbuffered zero;"
        "stat -c '%F %a' pipe"
    )
    assert sh(script, change).splitlines() == [
        "fuse character special file 640 3:4 a:e5",
        "deep/loop block special file 666 0:0 7:0",
        "unbuffered character special file 666 0:0 1:3",
        "zero character special file 444 0:0 1:5",
        "fifo 600",
    ]


@pytest.mark.requires_root("to make devices")
def test_a_device_outside_of_dev(sh: Shell) -> None:
    change = asking({"path": "/new/place/null", "type": "c", "major": 1, "minor": 3})
    assert sh("stat -c %t:%T /new/place/null", change, own_rootfs=True) == "1:3\n"


@pytest.mark.requires_root("to make devices")
def test_a_device_that_is_not_allowed_cannot_be_opened(sh: Shell) -> None:
    # No driver has this number: what the rules let through fails for another reason.
    odd = {"path": "/dev/odd", "type": "c", "major": 10, "minor": 254}
    script = "cat /dev/odd 2>&1 | sed 's/.*: //'"
    denied = [{"allow": False, "access": "rwm"}]
    assert sh(script, asking(odd, rules=denied)) == "Operation not permitted\n"
    allowed = [*denied, {"allow": True, "type": "c", "major": 10, "minor": 254, "access": "r"}]
    assert sh(script, asking(odd, rules=allowed)) == "No such device\n"


@pytest.mark.requires_root("to make devices")
def test_what_is_there_already_must_be_the_same(sh: Shell, bundle: BundleFactory) -> None:
    def without_dev(spec: rsc.Spec) -> None:
        spec.mounts = [m for m in spec.mounts if not m.destination.startswith("/dev")]

    made = bundle(without_dev, own_rootfs=True)
    # The second run finds the nodes of the first.
    for _ in range(2):
        assert sh("stat -c %t:%T /dev/null", bundle=made) == "1:3\n"
    null = made.rootfs / "dev" / "null"
    null.unlink()
    null.write_text("a file")
    with pytest.raises(rsc.SystemCallError, match=r'make device "/dev/null".*EEXIST') as caught:
        sh("true", bundle=made)
    assert "the rootfs has something else there" in str(caught.value)
    assert null.read_text() == "a file"


@pytest.mark.requires_root("to make devices")
def test_the_mode_and_owner_of_what_is_there_already(sh: Shell, bundle: BundleFactory) -> None:
    device = {"path": "/node", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "gid": 9}
    pipe = {"path": "/pipe", "type": "p", "fileMode": 0o620}
    made = bundle(asking(device, pipe), own_rootfs=True)
    os.mknod(made.rootfs / "node", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mkfifo(made.rootfs / "pipe", 0o666)
    assert sh("stat -c '%n %a %u:%g' /node /pipe", bundle=made).splitlines() == [
        "/node 640 0:9",
        "/pipe 620 0:0",
    ]


@pytest.mark.requires_root("to make devices")
def test_what_is_there_already_may_not_be_a_link(sh: Shell, bundle: BundleFactory) -> None:
    made = bundle(asking({"path": "/node", "type": "c", "major": 1, "minor": 3}), own_rootfs=True)
    (made.rootfs / "node").symlink_to("/dev/null")
    with pytest.raises(rsc.SystemCallError, match=r'make device "/node".*EEXIST'):
        sh("true", bundle=made)
    os.remove(made.rootfs / "node")
    os.mknod(made.rootfs / "node", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with pytest.raises(rsc.SystemCallError, match=r'make device "/node".*EEXIST'):
        sh("true", bundle=made)


@pytest.mark.requires_root("to make devices")
def test_devices_below_links_stay_in_the_rootfs(
    sh: Shell, bundle: BundleFactory, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    null = {"path": "/link/x/null", "type": "c", "major": 1, "minor": 3}
    made = bundle(asking(null), own_rootfs=True)
    (made.rootfs / "link").symlink_to(outside)
    assert sh(f"stat -c %t:%T {outside}/x/null", bundle=made) == "1:3\n"
    assert list(outside.iterdir()) == []


def test_ptmx_is_the_containers_own(sh: Shell, bundle: BundleFactory) -> None:
    def without_dev(spec: rsc.Spec) -> None:
        spec.mounts = [m for m in spec.mounts if m.destination != "/dev"]

    made = bundle(without_dev, own_rootfs=True)
    (made.rootfs / "dev").mkdir(exist_ok=True)
    (made.rootfs / "dev" / "ptmx").write_text("a file")
    (made.rootfs / "dev" / "stdin").write_text("a file")
    # The second run finds the link of the first.
    for _ in range(2):
        assert sh("readlink /dev/ptmx; cat /dev/stdin", bundle=made) == "pts/ptmx\na file"


def test_devices_in_a_user_namespace(sh: Shell) -> None:
    def change(*devices: dict[str, Any]) -> Change:
        def change(spec: rsc.Spec) -> None:
            asking(*devices)(spec)
            user_namespace(spec)

        return change

    pipe = {"path": "/dev/deep/pipe", "type": "p", "fileMode": 0o600, "uid": 7, "gid": 8}
    null = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}
    script = "stat -c '%F %a %u:%g' /dev/deep/pipe; stat -c '%t:%T' /dev/null"
    out = sh(script, change(pipe, null))
    assert out.splitlines() == ["fifo 600 7:8", "1:3"]
    wrong = {"path": "/dev/null", "type": "c", "major": 1, "minor": 5}
    with pytest.raises(rsc.SystemCallError, match="the host has another device there") as caught:
        sh("true", change(wrong))
    assert "$.linux.devices[0]" in str(caught.value)
    missing = {"path": "/dev/not/there", "type": "c", "major": 1, "minor": 5}
    with pytest.raises(rsc.SystemCallError, match="ENOENT") as caught:
        sh("true", change(missing))
    assert "the host's own node of the same path" in str(caught.value)


def test_a_device_that_is_shown_below_a_link_stays_in_the_rootfs(
    sh: Shell, bundle: BundleFactory, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def change(spec: rsc.Spec) -> None:
        asking({"path": "/dev/null", "type": "c", "major": 1, "minor": 3})(spec)
        spec.mounts = [m for m in spec.mounts if not m.destination.startswith("/dev")]
        user_namespace(spec)

    made = bundle(change, own_rootfs=True)
    if not ORDINARY:
        # Root of the container, who has other ids, makes the places.
        made.rootfs.chmod(0o777)
    (made.rootfs / "dev").rmdir()
    (made.rootfs / "dev").symlink_to(outside)
    assert sh(f"stat -c %t:%T {outside}/null", bundle=made) == "1:3\n"
    assert list(outside.iterdir()) == []


def test_the_hosts_dev_is_left_as_it_is(sh: Shell, tmp_path: Any) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()

    def change(spec: rsc.Spec) -> None:
        others = [m for m in spec.mounts if not m.destination.startswith("/dev")]
        bind = {"destination": "/dev", "type": "bind", "source": str(dev), "options": ["rbind"]}
        spec.mounts = [*others, bind]

    assert sh("ls -A /dev", change) == ""
    assert list(dev.iterdir()) == []
