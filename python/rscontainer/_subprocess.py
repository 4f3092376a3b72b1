"""The errors that are also :mod:`subprocess`'s; imported when one of them is first asked for."""

from __future__ import annotations

import subprocess

from rscontainer.errors import ContainerError


class TimeoutExpired(ContainerError, subprocess.TimeoutExpired):
    """A wait was over before the process was; a :exc:`subprocess.TimeoutExpired` too."""


class CalledProcessError(ContainerError, subprocess.CalledProcessError):
    """A process failed that was to be checked; a :exc:`subprocess.CalledProcessError` too."""


# Where users import them from, and what a traceback and a pickle name.
TimeoutExpired.__module__ = CalledProcessError.__module__ = "rscontainer.errors"
