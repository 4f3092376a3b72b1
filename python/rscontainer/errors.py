"""Exceptions: one base, and a subclass for each thing that a caller can do something about."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rscontainer._subprocess import CalledProcessError, TimeoutExpired

__all__ = [
    "AlreadyExistsError",
    "CalledProcessError",
    "ConfigWarning",
    "ContainerError",
    "NotFoundError",
    "SpecError",
    "StateError",
    "SystemCallError",
    "TimeoutExpired",
]


class ConfigWarning(UserWarning):
    """Something in a config has no effect, or not the one hoped for; the container runs.

    Made an error by a filter (:mod:`warnings`), it leaves no container behind.
    """


class ContainerError(Exception):
    """Whatever goes wrong with a container; also a hook that fails or a launcher that died."""


class SpecError(ContainerError):
    """The config asks for something that the specification does not allow.

    Or for something that is not supported yet: nothing is silently left out.
    """

    path: str | None = None
    """JSON path of the property at fault, such as ``$.process.cwd``."""
    value: str | None = None
    """Its value as JSON, shortened when long; ``None`` where it is missing."""
    section: str | None = None
    """The section of the specification that says so, such as ``config.md#process``."""


class NotFoundError(ContainerError):
    """There is no container, bundle or config of that name."""


class AlreadyExistsError(ContainerError):
    """The container's id or the bundle's folder is taken."""


class StateError(ContainerError):
    """The container is not in the status that the verb needs."""


class SystemCallError(ContainerError, OSError):
    """The kernel refused a system call; an :exc:`OSError` too, with its ``errno``."""

    call: str | None = None
    """The system call's name, as in section 2 of the manual."""
    path: str | None = None
    """What it acted on, if that has a path; inside the container for a step of its init."""
    step: str | None = None
    """The step of the plan that made the call, as ``Spec.explain`` prints it."""
    asked_by: str | None = None
    """JSON path of the property that asked for it."""


def __getattr__(name: str) -> object:
    # Their bases are subprocess's, which takes longer to import than all of this package.
    if name not in {"CalledProcessError", "TimeoutExpired"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rscontainer import _subprocess  # noqa: PLC0415

    error = getattr(_subprocess, name)
    globals()[name] = error
    return error
