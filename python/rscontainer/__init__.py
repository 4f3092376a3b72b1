"""An OCI container runtime in the Python process.

::

    import rscontainer as rsc

    bundle = rsc.Bundle.create("my_container", rootfs="busybox")
    print(rsc.run(bundle, ["ps", "aux"], capture_output=True, text=True).stdout)
"""

from __future__ import annotations

from rscontainer._core import VERSION as __version__
from rscontainer._core import start_launcher
from rscontainer._features import Features, features
from rscontainer._run import CompletedProcess, run
from rscontainer._streams import DEVNULL, PIPE, STDOUT, Terminal
from rscontainer.bundle import Bundle
from rscontainer.container import Container
from rscontainer.errors import (
    AlreadyExistsError,
    ConfigWarning,
    ContainerError,
    NotFoundError,
    SpecError,
    StateError,
    SystemCallError,
)
from rscontainer.process import Process
from rscontainer.spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rscontainer.errors import CalledProcessError, TimeoutExpired
    from rscontainer.events import Event
    from rscontainer.stats import Stats

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "AlreadyExistsError",
    "Bundle",
    "CalledProcessError",
    "CompletedProcess",
    "ConfigWarning",
    "Container",
    "ContainerError",
    "Event",
    "Features",
    "NotFoundError",
    "Process",
    "Spec",
    "SpecError",
    "StateError",
    "Stats",
    "SystemCallError",
    "Terminal",
    "TimeoutExpired",
    "__version__",
    "features",
    "run",
    "start_launcher",
]


def __getattr__(name: str) -> object:
    # What takes longer to import than all of the rest.
    places = {"CalledProcessError": "errors", "TimeoutExpired": "errors"}
    places |= {"Event": "events", "Stats": "stats"}
    if name not in places:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(f"{__name__}.{places[name]}"), name)
