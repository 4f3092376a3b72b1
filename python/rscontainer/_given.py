"""What callers give, in the core's form, and what the core says to them."""

from __future__ import annotations

import os

from rscontainer.errors import ConfigWarning, ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def warn(messages: Sequence[str]) -> None:
    """Say so of the line that called this package; a filter may make the first an exception."""
    if not messages:
        return
    import sys  # noqa: PLC0415  # most configs give no cause
    import warnings  # noqa: PLC0415

    frame, level = sys._getframe(1), 2  # noqa: SLF001  # as logging and warnings do
    while frame.f_back and frame.f_globals.get("__package__") == __package__:
        frame, level = frame.f_back, level + 1
    for message in messages:
        warnings.warn(message, ConfigWarning, stacklevel=level)


def argument_list(args: Sequence[str] | None) -> list[str] | None:
    """Refuse a string, whose letters would be taken for the arguments."""
    if args is None:
        return None
    if isinstance(args, (str, bytes)):
        raise TypeError(f"args must be a list of strings, such as {str(args).split()!r}")
    return [os.fsdecode(arg) if isinstance(arg, (bytes, os.PathLike)) else arg for arg in args]


def environment(env: Mapping[str, str]) -> list[str]:
    for name in env:
        if "=" in name or not name:
            raise ValueError(f"env has {name!r}, which is no name of a variable")
    return [f"{name}={value}" for name, value in env.items()]


# The one after it means "leave as it is" to the kernel (setresuid(2)).
_LARGEST_ID = 2**32 - 2


def user_numbers(user: int | str | None) -> tuple[int, int | None] | None:
    if user is None:
        return None
    uid, colon, gid = str(user).partition(":")
    if not uid.isdecimal() or (colon and not gid.isdecimal()):
        raise ContainerError(
            f"user {user!r} is neither a number nor 'uid:gid'; look names up in "
            "the container's /etc/passwd"
        )
    numbers = [int(uid), *([int(gid)] if colon else [])]
    if max(numbers) > _LARGEST_ID:
        raise ContainerError(f"user {user!r} is out of range: numbers go up to {_LARGEST_ID}")
    return numbers[0], numbers[1] if colon else None
