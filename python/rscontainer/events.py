"""What happens to a container."""

from __future__ import annotations

import time as _time
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from rscontainer import _core

    Kind = Literal["oom", "oom_kill", "frozen", "thawed", "exit"]

__all__ = ["Event"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a container."""

    type: Kind
    """``oom``: memory ran out; ``oom_kill``: a process was killed for that; ``frozen`` and
    ``thawed``; ``exit``: its init ended, the last there is."""
    time: float
    """When it was seen, in seconds since the epoch."""
    count: int
    """How often it happened since the last such event: several at once are one."""


def follow(events: _core.Events) -> Iterator[Event]:
    """Give what happens until the end."""
    while (found := events.next()) is not None:
        kind, count = found
        yield Event(kind, _time.time(), count)  # type: ignore[arg-type]  # the core's are these
