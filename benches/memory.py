"""What an idle container costs outside its own process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

PROC = Path("/proc")


class Holds(Protocol):
    """Anything that can keep containers idle."""

    def hold(self, count: int) -> list[tuple[str, int]]: ...

    def release(self) -> None: ...


def processes() -> set[int]:
    return {int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()}


def _pss(pid: int) -> int:
    """Proportional set size in bytes; nothing for kernel threads and for who is gone."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _parents() -> dict[int, int]:
    parents = {}
    for pid in processes():
        try:
            stat = (PROC / str(pid) / "stat").read_text()
        except OSError:
            continue
        # The name may hold spaces and parentheses: what follows the last one is plain.
        parents[pid] = int(stat.rpartition(")")[2].split()[1])
    return parents


def _is_ours(pid: int, parents: dict[int, int], executable: str) -> bool:
    """Whether a process belongs to the competitor and not to whatever else the host is doing."""
    try:
        runs = os.readlink(PROC / str(pid) / "exe")
    except OSError:
        return False
    if runs.startswith(("/memfd:", executable)):
        return True
    while pid in parents:
        if pid == os.getpid():
            return True
        pid = parents[pid]
    return False


def _helpers(before: set[int], inits: set[int], executable: str, also: int | None) -> int:
    parents = _parents()
    helpers = {pid for pid in parents.keys() - before - inits if _is_ours(pid, parents, executable)}
    if also is not None:
        helpers.add(also)
    return sum(map(_pss, helpers))


def _used() -> int:
    """What the host has allocated and could not give back, caches left out.

    MemAvailable would be one line instead of six, but it moves with the caches by more than a
    container costs.
    """
    kinds = ("AnonPages", "Shmem", "SUnreclaim", "KernelStack", "PageTables", "Percpu")
    lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    return sum(int(words[1]) * 1024 for words in lines if words[0].rstrip(":") in kinds)


def idle_cost(
    subject: Holds, count: int, before: set[int], executable: str, also: int | None
) -> tuple[float, float]:
    """Bytes a container: of helper processes, and of the host as a whole.

    `before` are the processes from before the subject existed, `also` is one that counts
    although it is older. The first container is not counted, since it may start a launcher that
    serves all of them.
    """
    try:
        inits = {pid for _, pid in subject.hold(1)}
        time.sleep(0.5)
        helpers = _helpers(before, inits, executable, also)
        used = _used()
        inits |= {pid for _, pid in subject.hold(count)}
        time.sleep(0.5)
        helpers = _helpers(before, inits, executable, also) - helpers
        used = _used() - used
    finally:
        subject.release()
    # Namespaces and cgroups are freed some time after their last process, and would count as
    # available for whoever is measured next.
    time.sleep(2)
    return helpers / count, used / count
