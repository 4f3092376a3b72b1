"""What a container may use, and what it has used."""

from __future__ import annotations

from rscontainer._given import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from rscontainer._core import Container as _Core
    from rscontainer.events import Event
    from rscontainer.process import Process
    from rscontainer.stats import Stats


class Resources:
    """A container's limits, figures, processes and events."""

    _core: _Core
    if TYPE_CHECKING:

        @property
        def init(self) -> Process: ...

    def update(
        self,
        *,
        memory: int | str | None = None,
        memory_swap: int | str | None = None,
        memory_reservation: int | str | None = None,
        cpus: float | None = None,
        cpu_shares: int | None = None,
        cpuset: str | int | Iterable[int] | None = None,
        cpuset_mems: str | int | Iterable[int] | None = None,
        pids: int | None = None,
        resources: Mapping[str, Any] | None = None,
        **files: int | str,
    ) -> None:
        """Change its limits, all that are given or none; the others stay, and -1 is no limit.

        Memory is in bytes or as in ``"512M"``; ``memory_swap`` is memory and swap together.
        ``cpus`` is how many processors' time it may use, such as 1.5; ``cpuset`` which ones, as in
        ``"0-3,7"`` or ``[0, 1]``. ``resources`` is in the form of the config's ``linux.resources``;
        rules for devices in it take the place of all that hold. A file of cgroup version 2 can be
        given by its name: ``**{"memory.high": "256M"}``.

        Raises ``SpecError`` for what the specification does not allow, alone or with what holds,
        ``SystemCallError`` if the kernel refuses, ``StateError`` unless it runs or is created.
        """
        import json  # noqa: PLC0415  # most callers change nothing

        from rscontainer import _limits  # noqa: PLC0415

        change = _limits.resources(
            resources,
            sizes={"limit": memory, "swap": memory_swap, "reservation": memory_reservation},
            cpus=cpus,
            cpu={
                "shares": cpu_shares,
                "cpus": _limits.cpuset(cpuset),
                "mems": _limits.cpuset(cpuset_mems),
            },
            pids=pids,
            files=files,
        )
        warn(self._core.update(json.dumps(change)))

    def resources(self) -> dict[str, Any]:
        """The limits that hold, in the form of the config's ``linux.resources``.

        What the config said, and what :meth:`update` changed of it.
        """
        import json  # noqa: PLC0415  # as in state()

        return dict(json.loads(self._core.resources()))

    def stats(self) -> Stats:
        """What it has used so far, also of one that has ended, until it is deleted."""
        from rscontainer import stats  # noqa: PLC0415  # most callers never ask

        return stats.parse(self._core.stats())

    def stats_stream(self, interval: float = 1) -> Iterator[Stats]:
        """Give :meth:`stats` at once and then every ``interval`` seconds, until it ends."""
        from rscontainer import stats  # noqa: PLC0415

        return stats.stream(self, interval)

    def events(self) -> Iterator[Event]:
        """Begin to watch it, and give what happens from now on: memory that runs out, freezing.

        The last is its end.
        """
        from rscontainer import events  # noqa: PLC0415

        return events.follow(self._core.events())

    def pids(self) -> list[int]:
        """The numbers of its processes on the host, sorted."""
        return self._core.pids()
