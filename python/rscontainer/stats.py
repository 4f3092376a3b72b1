"""What a container has used: sizes in bytes, times in nanoseconds, ``None`` where nobody counts."""

from __future__ import annotations

import json
import time as _time
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rscontainer._resources import Resources

__all__ = [
    "Cpu",
    "HugePages",
    "Interface",
    "Io",
    "Memory",
    "Pids",
    "Pressure",
    "Pressures",
    "Share",
    "Stats",
    "Throttling",
    "Usage",
]


@dataclass(frozen=True)
class Throttling:
    """What a quota did."""

    periods: int
    """Periods in which there was something to run."""
    throttled_periods: int
    """Those in which the quota was used up."""
    throttled_time: int
    """How long processes waited for the next, in nanoseconds."""


@dataclass(frozen=True)
class Cpu:
    """Processor time, in nanoseconds."""

    total: int | None
    """All of it."""
    user: int | None
    """In programs. Version 1 counts it in steps of 10 ms."""
    system: int | None
    """In the kernel. Version 1 counts it in steps of 10 ms."""
    per_cpu: tuple[int, ...] | None
    """All of it, by processor; version 1 alone counts so."""
    throttling: Throttling | None
    """What the quota did."""


@dataclass(frozen=True)
class Usage:
    """A limit, and what became of it."""

    usage: int
    """Bytes in use."""
    limit: int | None
    """Bytes; ``None`` for no limit."""
    max_usage: int | None
    """The most bytes that were in use."""
    failcnt: int | None
    """How often the limit was hit."""


@dataclass(frozen=True)
class Memory(Usage):
    """Memory, in bytes."""

    anon: int | None
    """Of it what programs have, and no file."""
    cache: int | None
    """Of it what is of files, those in memory included."""
    shmem: int | None
    """Of the cache, what is of files in memory: tmpfs, shared memory."""
    mapped: int | None
    """Of the cache, what programs have mapped."""
    kernel: int | None
    """Of it what the kernel needs for the container: stacks, page tables, slab."""
    swap: Usage | None
    """Swap alone."""
    ooms: int | None
    """How often memory ran out; version 2 alone counts that."""
    oom_kills: int | None
    """Processes that were killed for that."""
    stat: Mapping[str, int]
    """The kernel's ``memory.stat``, by its names."""


@dataclass(frozen=True)
class Io:
    """Input and output of a device."""

    major: int
    """The device's number."""
    minor: int
    """The device's number."""
    read_bytes: int
    """Bytes read."""
    write_bytes: int
    """Bytes written."""
    discard_bytes: int
    """Bytes given up, as by trimming."""
    reads: int
    """Operations."""
    writes: int
    """Operations."""
    discards: int
    """Operations."""


@dataclass(frozen=True)
class Pids:
    """Processes and threads."""

    current: int
    """How many there are."""
    limit: int | None
    """How many there may be; ``None`` for no limit."""


@dataclass(frozen=True)
class HugePages(Usage):
    """Huge pages of a size, in bytes."""

    reserved: Usage | None
    """Those set aside by mappings, in use or not."""


@dataclass(frozen=True)
class Share:
    """A share of the time."""

    avg10: float
    """Of the last 10 seconds, in percent."""
    avg60: float
    """Of the last 60 seconds, in percent."""
    avg300: float
    """Of the last 300 seconds, in percent."""
    total: int
    """All of it, in nanoseconds."""


@dataclass(frozen=True)
class Pressure:
    """Time lost waiting for something."""

    some: Share
    """By any process."""
    full: Share
    """By all at the same time."""


@dataclass(frozen=True)
class Pressures:
    """Time lost waiting, by what was waited for; version 2 alone counts that."""

    cpu: Pressure | None
    """A processor."""
    memory: Pressure | None
    """Memory."""
    io: Pressure | None
    """Input and output."""


@dataclass(frozen=True)
class Interface:
    """A network interface: what came in and went out."""

    name: str
    """As it is called in the container."""
    rx_bytes: int
    """Bytes received."""
    rx_packets: int
    """Packets received."""
    rx_errors: int
    """Packets received with errors."""
    rx_dropped: int
    """Packets received and dropped."""
    tx_bytes: int
    """Bytes sent."""
    tx_packets: int
    """Packets sent."""
    tx_errors: int
    """Packets that could not be sent."""
    tx_dropped: int
    """Packets dropped instead of sent."""


@dataclass(frozen=True)
class Stats:
    """Figures of one moment; ``None`` where the host has no such controller."""

    time: float
    """When, in seconds since the epoch."""
    cpu: Cpu | None
    """Processor time."""
    memory: Memory | None
    """Memory."""
    io: tuple[Io, ...] | None
    """Input and output, by device; devices that were not used are left out."""
    pids: Pids | None
    """Processes and threads."""
    hugetlb: Mapping[str, HugePages] | None
    """Huge pages, by size: ``"2MB"``."""
    pressure: Pressures
    """Time lost waiting."""
    network: tuple[Interface, ...] | None
    """The interfaces of its network; ``None`` where it has the host's, or has ended."""


def parse(text: str) -> Stats:
    """Make sense of the core's JSON."""
    found: dict[str, Any] = json.loads(text)
    cpu, io, pids, hugetlb = (found[name] for name in ("cpu", "io", "pids", "hugetlb"))
    network = found["network"]
    return Stats(
        time=_time.time(),
        cpu=None if cpu is None else _cpu(cpu),
        memory=None if found["memory"] is None else _memory(found["memory"]),
        io=None if io is None else _io(io),
        pids=None if pids is None else Pids(**pids),
        hugetlb=None if hugetlb is None else {size: _pages(of) for size, of in hugetlb.items()},
        pressure=Pressures(**{name: _pressure(of) for name, of in found["pressure"].items()}),
        network=None if network is None else tuple(Interface(**one) for one in network),
    )


def _cpu(found: dict[str, Any]) -> Cpu:
    per_cpu, throttling = found.pop("per_cpu"), found.pop("throttling")
    return Cpu(
        **found,
        per_cpu=None if per_cpu is None else tuple(per_cpu),
        throttling=None if throttling is None else Throttling(**throttling),
    )


def _memory(found: dict[str, Any]) -> Memory:
    stat: dict[str, int] = found["stat"]

    def figure(v1: str, v2: str) -> int | None:
        return stat.get(v1, stat.get(v2))

    return Memory(
        **{**found, "swap": _usage(found["swap"])},
        anon=figure("total_rss", "anon"),
        cache=figure("total_cache", "file"),
        shmem=figure("total_shmem", "shmem"),
        mapped=figure("total_mapped_file", "file_mapped"),
    )


def _usage(found: dict[str, Any] | None) -> Usage | None:
    return None if found is None else Usage(**found)


def _pages(found: dict[str, Any]) -> HugePages:
    return HugePages(**{**found, "reserved": _usage(found["reserved"])})


def _io(found: dict[str, Any]) -> tuple[Io, ...]:
    devices: dict[tuple[int, int], dict[str, int]] = {}
    for kind, end in (("bytes", "_bytes"), ("operations", "s")):
        for entry in found[kind]:
            figures = devices.setdefault((entry["major"], entry["minor"]), {})
            figures[entry["op"].lower() + end] = entry["value"]
    names = [op + end for end in ("_bytes", "s") for op in ("read", "write", "discard")]
    return tuple(
        Io(major, minor, **{name: figures.get(name, 0) for name in names})
        for (major, minor), figures in sorted(devices.items())
    )


def _pressure(found: dict[str, Any] | None) -> Pressure | None:
    return None if found is None else Pressure(Share(**found["some"]), Share(**found["full"]))


def stream(container: Resources, interval: float) -> Iterator[Stats]:
    """Give figures until the container ends."""
    import select  # noqa: PLC0415  # as rare as streams are

    if not interval > 0:
        raise ValueError(f"interval must be more than 0, not {interval!r}")
    from rscontainer.errors import StateError  # noqa: PLC0415

    try:
        init = container.init
    except StateError:
        return
    ended = select.poll()
    ended.register(init.fileno(), select.POLLIN)
    due = _time.monotonic()
    while True:
        left = max(0.0, due - _time.monotonic())
        if ended.poll(left * 1000):
            return
        yield container.stats()
        # A caller that takes longer than the interval skips what it missed.
        due = max(due + interval, _time.monotonic())
