"""Limits for the tests' containers, and where the kernel keeps them."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import PATIENCE, eventually

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOREVER = ["sleep", "1000"]
MIB = 2**20
# Takes more memory until it is killed for it.
GROWING = ["sh", "-c", "exec awk 'BEGIN { s = \"x\"; while (1) s = s s }'"]
SYSTEMD = Path("/run/systemd/system").exists()
not_here = pytest.mark.skipif(not SYSTEMD, reason="systemd does not run here")


def controllers() -> set[str]:
    """The controllers that a hierarchy mounted on this host has."""
    found = set()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup":
            found |= set(options.split(","))
        elif kind == "cgroup2":
            found |= set(Path(place, "cgroup.controllers").read_text().split())
    return found


def needs(controller: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        controller not in controllers(), reason=f"no {controller} controller in a mounted hierarchy"
    )


@contextlib.contextmanager
def needing_swap() -> Iterator[None]:
    """Skip the test where this kernel does not account for swap, which a limit then says."""
    try:
        yield
    except rsc.SystemCallError as error:
        if "swap" in str(error):
            pytest.skip(f"this kernel does not account for swap: {error}")
        raise


def limiting(**resources: Any) -> Callable[[rsc.Spec], None]:
    def change(spec: rsc.Spec) -> None:
        spec.linux.resources = {**spec.linux.resources.to_dict(), **resources}

    return change


def cgroups(pid: int) -> dict[str, Path]:
    """The cgroups of a process, by what their hierarchies are called; version 2's is ``""``."""
    found = {}
    mounts = [line.split()[:4] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, own, path = line.split(":", 2)
        for _, place, kind, options in mounts:
            at_home = (
                kind == "cgroup2" if not own else set(own.split(",")) <= set(options.split(","))
            )
            if kind.startswith("cgroup") and at_home:
                found[own] = Path(place + path)
    return found


def delete_theirs(runtime: Sequence[str | os.PathLike[str]], id: str) -> None:
    """Delete a container of another runtime, and what that may leave of its cgroups.

    As soon as the first thread of its init has ended, runc 1.1 tries once to remove a cgroup of
    version 2, and succeeds in any case: an init that was not started has more threads.
    """
    argv = [*runtime, "delete", "--force", id]
    subprocess.run(argv, check=True, capture_output=True, text=True, timeout=2 * PATIENCE)
    mounts = [line.split()[:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for _, place, kind in mounts:
        if kind.startswith("cgroup"):
            for left in Path(place).rglob(id):
                eventually(functools.partial(is_removed, left), f"an end of {left}")


def is_removed(cgroup: Path) -> bool:
    with contextlib.suppress(OSError):
        cgroup.rmdir()
    return not cgroup.exists()


def cgroup_files(pid: int, name: str) -> list[Path]:
    """The files of this name in the cgroups of a process."""
    return [path / name for path in cgroups(pid).values() if (path / name).exists()]


def cgroup_file(pid: int, *names: str) -> str:
    """The text of the one file that has one of these names in the cgroups of a process."""
    (file,) = (file for name in names for file in cgroup_files(pid, name))
    return file.read_text().strip()


def has_a_cgroup(container: rsc.Container) -> bool:
    """Whether it has, in every hierarchy; an ordinary user's may not."""
    lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
    return all(line.endswith(f"/{container.id}") for line in lines)


def systemctl(*words: str, check: bool = True) -> str:
    """Ask the systemd whose the containers' scopes are: the host's, or an ordinary user's."""
    argv = ["systemctl", *(["--user"] if os.geteuid() else []), *words]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout
