"""Limits as people say them, as the specification's ``linux.resources``."""

from __future__ import annotations

from rscontainer import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Union

    Size = Union[int, str]

# What the kernel takes for a quota's period where nobody says another, in microseconds.
_PERIOD = 100_000


def resources(
    given: Mapping[str, Any] | None,
    *,
    sizes: Mapping[str, Size | None],
    cpus: float | None,
    cpu: Mapping[str, Any],
    pids: int | None,
    files: Mapping[str, int | str],
) -> dict[str, Any]:
    """Put all of it into one change; what is ``None`` is not in it."""
    change = {key: dict(value) if _is_object(value) else value for key, value in _items(given)}
    for name, size in sizes.items():
        if size is not None:
            _put(change, "memory", name, _core.number_of_bytes(f"memory {name}", str(size)))
    if cpus is not None:
        if cpus <= 0 and cpus != -1:
            raise ValueError(f"cpus must be more than 0, or -1 for no limit, not {cpus!r}")
        _put(change, "cpu", "quota", -1 if cpus == -1 else round(cpus * _PERIOD))
        _put(change, "cpu", "period", _PERIOD)
    for name, value in cpu.items():
        if value is not None:
            _put(change, "cpu", name, value)
    if pids is not None:
        _put(change, "pids", "limit", int(pids))
    for name, content in files.items():
        if "." not in name:
            raise TypeError(f"update() got an unexpected keyword argument {name!r}")
        _put(change, "unified", name, str(content))
    return change


def cpuset(numbers: str | int | Iterable[int] | None) -> str | None:
    """Give the kernel's form of a list: ``"0-1,3"``."""
    if numbers is None or isinstance(numbers, str):
        return numbers
    return ",".join(map(str, [numbers] if isinstance(numbers, int) else numbers))


def _items(given: Mapping[str, Any] | None) -> Iterable[tuple[str, Any]]:
    return () if given is None else given.items()


def _is_object(value: object) -> bool:
    return hasattr(value, "keys")


def _put(change: dict[str, Any], kind: str, name: str, value: object) -> None:
    of_kind = change.setdefault(kind, {})
    if name in of_kind:
        raise TypeError(f"{kind}.{name} is given twice, by itself and in resources")
    of_kind[name] = value
