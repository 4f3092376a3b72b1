"""Devices: the default ones, those asked for, and what may be done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import user_namespace

import rscontainer as rsc

if TYPE_CHECKING:
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


def test_the_hosts_dev_is_left_as_it_is(sh: Shell, tmp_path: Any) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()

    def change(spec: rsc.Spec) -> None:
        others = [m for m in spec.mounts if not m.destination.startswith("/dev")]
        bind = {"destination": "/dev", "type": "bind", "source": str(dev), "options": ["rbind"]}
        spec.mounts = [*others, bind]

    assert sh("ls -A /dev", change) == ""
    assert list(dev.iterdir()) == []
