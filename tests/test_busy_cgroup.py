"""A cgroup that somebody else is in, or somebody who does not freeze: nothing hangs."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from conftest import SLOWNESS, eventually
from limits import FOREVER, cgroup_files, cgroups, has_a_cgroup

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import BundleFactory

pytestmark = pytest.mark.requires_root("to move a process of the host's into a container's cgroup")

# Reads by way of the kernel a page of its own that somebody else is to fill, and nobody does: only
# SIGKILL wakes it. Numbers and layouts are of linux/userfaultfd.h.
STUCK = """
import ctypes, fcntl, mmap, os, platform, struct
number = {"x86_64": 323, "aarch64": 282}[platform.machine()]
fault = ctypes.CDLL(None, use_errno=True).syscall(number, os.O_CLOEXEC)
if fault < 0:
    raise SystemExit(os.strerror(ctypes.get_errno()))
fcntl.ioctl(fault, 0xC018AA3F, struct.pack("QQQ", 0xAA, 0, 0))
page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
place = ctypes.addressof(ctypes.c_char.from_buffer(page))
fcntl.ioctl(fault, 0xC020AA00, struct.pack("QQQQ", place, mmap.PAGESIZE, 1, 0))
read = ctypes.create_string_buffer(1)
into = (ctypes.c_size_t * 2)(ctypes.addressof(read), 1)
of = (ctypes.c_size_t * 2)(place, 1)
print("now", flush=True)
ctypes.CDLL(None).process_vm_readv(os.getpid(), into, 1, of, 1, 0)
"""


@pytest.fixture
def running(bundle: BundleFactory, root: Path, box: str) -> Iterator[Container]:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        assert has_a_cgroup(container)
        yield container


@pytest.fixture
def guest() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host's."""
    with subprocess.Popen(FOREVER) as process:
        yield process
        process.kill()


def enter(process: subprocess.Popen[bytes], *places: Path) -> None:
    for place in places:
        (place / "cgroup.procs").write_text(str(process.pid))


def not_asked(container: Container) -> tuple[str, Path]:
    """A hierarchy whose processes are not killed for being in the container's cgroup."""
    for name, place in cgroups(container.pid).items():
        if name in ("cpu", "cpu,cpuacct", "pids"):
            return name, place
    pytest.skip("no hierarchies of cgroup v1 are mounted here: in version 2, all are killed")


@pytest.mark.parametrize("inside", ["", "further/down"])
def test_whoever_is_in_it_is_killed(
    running: Container, guest: subprocess.Popen[bytes], inside: str
) -> None:
    # A new one of cpuset lets nobody in before it is given processors.
    own = [place for name, place in cgroups(running.pid).items() if name != "cpuset"]
    places = [place / inside for place in own]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    enter(guest, *places)
    running.delete(force=True)
    assert guest.wait(30) == -9
    assert not any(place.exists() for place in places)


@pytest.mark.parametrize("inside", ["", "further"])
def test_deletion_waits_for_who_leaves(
    running: Container, guest: subprocess.Popen[bytes], inside: str
) -> None:
    name, place = not_asked(running)
    home = cgroups(guest.pid)[name]
    (place / inside).mkdir(exist_ok=True)
    enter(guest, place / inside)
    leaving = threading.Timer(1, enter, (guest, home))
    began = time.monotonic()
    leaving.start()
    running.delete(force=True)
    assert time.monotonic() - began >= 0.9
    assert not place.exists()
    assert guest.poll() is None
    leaving.join()


def test_deletion_names_who_stays(running: Container, guest: subprocess.Popen[bytes]) -> None:
    name, place = not_asked(running)
    home = cgroups(guest.pid)[name]
    enter(guest, place)
    began = time.monotonic()
    with pytest.raises(rsc.SystemCallError, match=re.escape(str(place))) as caught:
        running.delete(force=True)
    assert time.monotonic() - began < 10 * SLOWNESS
    assert re.search(rf"\b{guest.pid}\b", str(caught.value))
    assert running.status == "stopped"
    # Once that one has gone, there is nothing in the way.
    enter(guest, home)
    running.delete()
    assert not place.exists()


def test_who_does_not_freeze_leaves_nobody_frozen(running: Container) -> None:
    argv = [sys.executable, "-c", STUCK]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as stuck:
        assert stuck.stdout is not None
        assert stuck.stderr is not None
        try:
            if stuck.stdout.readline() != b"now\n":
                pytest.skip(f"no userfaultfd on this host: {stuck.stderr.read().decode()}")
            eventually(lambda: "D" in state_of(stuck.pid), "the process's being stuck")
            enter(stuck, *cgroups(running.pid).values())
            began = time.monotonic()
            with pytest.raises(rsc.ContainerError, match="does not freeze"):
                running.pause()
            assert time.monotonic() - began < 10 * SLOWNESS
        finally:
            stuck.kill()
    assert running.status == "running"
    states = [
        file.read_text().strip()
        for name in ("freezer.state", "cgroup.freeze")
        for file in cgroup_files(running.pid, name)
    ]
    assert states
    assert set(states) <= {"THAWED", "0"}
    assert running.exec(["true"]).wait(30) == 0


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]
