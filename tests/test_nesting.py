"""A container in a container: its cgroup is below, its limits hold, and it goes whole."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import eventually
from limits import FOREVER, cgroups, limiting, needs

import rscontainer as rsc
from rscontainer import Container, _binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, CommandLine

pytestmark = pytest.mark.requires_root("to give a container a runtime's capabilities")


# Of version 2, a cgroup that hands controllers on has no processes of its own: these go apart.
APART = "payload"
BEGIN = f"""
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    mkdir /sys/fs/cgroup/{APART} && echo $$ > /sys/fs/cgroup/{APART}/cgroup.procs
fi
exec sleep 1000
"""


def bind(source: object, destination: str, *options: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": "bind",
        "source": str(source),
        "options": ["bind", *options],
    }


# What a runtime uses for what it sets up, and what the container in it is to keep.
CAPABILITIES = """
    CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN SYS_CHROOT
    SYS_PTRACE SYS_ADMIN MKNOD AUDIT_WRITE
"""


@pytest.fixture
def outer(bundle: BundleFactory, root: Path, box: str) -> Iterator[Container]:
    """A container with what it takes to run another, whose bundle is in /inner."""

    def limited(spec: rsc.Spec) -> None:
        limiting(pids={"limit": 6})(spec)
        spec.linux.cgroupsPath = "/inner"

    inner = bundle(limited, args=FOREVER)
    rootfs = inner.rootfs

    def able(spec: rsc.Spec) -> None:
        for kind in ("bounding", "permitted", "effective", "inheritable"):
            spec.process.capabilities[kind] = [f"CAP_{name}" for name in CAPABILITIES.split()]
        kinds = [namespace.to_dict() for namespace in spec.linux.namespaces]
        spec.linux.namespaces = [kind for kind in kinds if kind["type"] != "cgroup"]
        spec.linux.namespaces = [*spec.linux.namespaces, {"type": "cgroup"}]
        spec.linux.maskedPaths = spec.linux.readonlyPaths = []
        mounts = [mount.to_dict() for mount in spec.mounts]
        for mount in mounts:
            if mount["type"] == "cgroup":
                mount["options"] = [option for option in mount["options"] if option != "ro"]
        binary = bind(_binary.binary(), "/bin/rscontainer", "ro")
        spec.mounts = [
            *mounts,
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": []},
            bind(inner.path, "/inner"),
            bind(rootfs, str(rootfs), "ro"),
            binary,
        ]

    made = bundle(able, args=["sh", "-c", BEGIN], own_rootfs=True)
    with Container.run(box, made, root=root) as container:
        name = Path(f"/proc/{container.pid}/comm")
        eventually(lambda: name.read_text() == "sleep\n", "the container's being ready")
        yield container


@needs("pids")
def test_a_container_in_a_container(cli: CommandLine, outer: Container) -> None:
    own = cgroups(outer.pid)
    apart = ["--cgroup", APART] if any(place.name == APART for place in own.values()) else []
    into = ["exec", *apart, outer.id]
    inner = [*into, "rscontainer", "--root", "/run/states"]
    # What stays must not hold a pipe that is waited for.
    begin = "exec rscontainer --root /run/states run --detach -b /inner inner >/run/log 2>&1"
    done = cli(*into, "sh", "-c", begin, check=False)
    assert done.returncode == 0, cli(*into, "cat", "/run/log").stdout
    assert json.loads(cli(*inner, "state", "inner").stdout)["status"] == "running"
    above = [place.parent if place.name == APART else place for place in own.values()]
    below = [place / "inner" for place in above]
    assert all(place.exists() for place in below)
    (pids,) = (place for place in below if (place / "pids.max").exists())
    assert (pids / "pids.max").read_text() == "6\n"
    bomb = "for number in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait"
    argv = cli.argv(*inner, "exec", "inner", "sh", "-c", bomb)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bombing:
        events = pids / "pids.events"
        eventually(lambda: "max 0" not in events.read_text(), "the limit's being hit")
        assert int((pids / "pids.current").read_text()) <= 6
        cli(*inner, "delete", "--force", "inner")
        assert bombing.wait(30) != 0
    assert not [place for place in below if place.exists()]
    assert cli(*inner, "list", "-q").stdout == ""
    assert outer.status == "running"
