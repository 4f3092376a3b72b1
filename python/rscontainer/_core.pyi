"""The Rust core, as the classes of this package use it.

What is public is documented there; everything here raises the exceptions of
``rscontainer.errors`` and releases the interpreter's lock while it waits.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

VERSION: str

_Stdio = tuple[int, int, int]
_Strings = list[str]
_Numbers = list[int]

@final
class Container:
    """A container by its id and the folder of states."""

    @staticmethod
    def create(
        id: str,
        bundle: str,
        root: str | None,
        config: str | None,
        args: Sequence[str] | None,
        terminal: bool | None,
        start: bool,
        attached: bool,
        stdio: _Stdio,
    ) -> tuple[Container, Process]:
        """Have the launcher create a container, and start it at once if ``start``."""
    @staticmethod
    def restore(
        id: str,
        bundle: str,
        root: str | None,
        config: str | None,
        options: str,
        attached: bool,
        stdio: _Stdio,
    ) -> tuple[Container, Process]:
        """Have the launcher bring a checkpoint's processes back by criu(8); ``options`` is JSON."""
    @staticmethod
    def load(id: str, root: str | None) -> Container:
        """Find one; NotFoundError if there is none."""
    @staticmethod
    def list(root: str | None) -> list[Container]:
        """Find all, sorted by id."""
    @property
    def id(self) -> str: ...
    @property
    def root(self) -> Path: ...
    @property
    def status(self) -> str: ...
    def state(self) -> str:
        """The OCI state as JSON (runtime.md#state)."""
    def find_init(self) -> Process | None:
        """Its init, unless that has ended."""
    def start(self) -> None: ...
    def exec(
        self,
        args: Sequence[str],
        env: Sequence[str] | None,
        cwd: str | None,
        user: tuple[int, int | None] | None,
        terminal: bool,
        cgroups: _Strings,
        attached: bool,
        stdio: _Stdio,
    ) -> Process:
        """Have the launcher run a program in it."""
    def update(self, resources: str) -> _Strings:
        """Change limits, given as JSON; the warnings."""
    def resources(self) -> str:
        """The limits that hold, as JSON."""
    def stats(self) -> str:
        """The figures of this moment as JSON."""
    def events(self) -> Events:
        """Begin to watch it."""
    def pids(self) -> _Numbers: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def kill(self, signal: str, all: bool) -> None: ...
    def checkpoint(self, options: str) -> None:
        """Have criu(8) write its processes to disk; ``options`` is JSON."""
    def delete(self, force: bool) -> None: ...

@final
class Events:
    """A container that is watched."""

    def next(self) -> tuple[str, int] | None:
        """Wait for the next event, its name and how often; None when there will be no more."""

@final
class Process:
    """A process by its pidfd."""

    @property
    def pid(self) -> int: ...
    @property
    def warnings(self) -> list[str]:
        """What the specification wants said of its config and not refused."""
    @property
    def returncode(self) -> int | None: ...
    @property
    def oom_killed(self) -> bool | None: ...
    def fileno(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int | None:
        """Its returncode; None if it still runs after ``timeout`` seconds."""
    def send_signal(self, signal: int) -> None: ...
    def terminal(self) -> int | None:
        """A copy of the descriptor of its terminal, for the caller to close."""
    def resize(self, rows: int, columns: int) -> None: ...
    def interact(self, input: int, output: int, timeout: float | None = None) -> bool:
        """Join its terminal to these descriptors until it ends; False after ``timeout`` seconds."""

@final
class Communication:
    """Input, output and errors carried side by side."""

    def __new__(
        cls, data: bytes, stdin: int | None, stdout: int | None, stderr: int | None
    ) -> Communication: ...
    def run(self, timeout: float | None = None) -> bool:
        """Carry until all is said; False if it is not after ``timeout`` seconds."""
    def output(self) -> list[bytes | None]:
        """What came so far, of output and of errors."""

def start_launcher() -> None:
    """Start this process's launcher, which the first container otherwise waits for.

    Does nothing if it runs. Raises ``ContainerError`` if it cannot be started.
    """

def resize_terminal(number: int, rows: int, columns: int) -> None:
    """Set the window's size of a terminal by descriptor (ioctl_tty(2), TIOCSWINSZ)."""

def default_spec(rootless: bool) -> str:
    """The default config as JSON."""

def validate_spec(json: str) -> list[str]:
    """The warnings about a config; SpecError if it breaks a rule."""

def explain_spec(json: str, bundle: str) -> str:
    """The plan of a config in a bundle's folder, one step a line."""

def number_of_bytes(what: str, text: str) -> int:
    """Bytes from how people write them; ``what`` is named in errors."""

def features() -> str:
    """The features structure as JSON (features.md)."""

def bundle_prepare(building: str, place: str) -> None:
    """Begin a bundle that is to be at ``place`` in the new folder ``building``."""

def bundle_publish(building: str, place: str) -> None:
    """Put a finished bundle in its place."""

def bundle_discard(building: str) -> None:
    """Remove a bundle that was begun."""

def bundle_existing(place: str) -> None:
    """NotFoundError unless a bundle is there."""

def unpack(source: int | Callable[[int], Any], destination: str) -> list[str]:
    """Unpack a tar stream; returns what was left out, a line each."""

def unpack_file(source: str, destination: str) -> list[str]:
    """Unpack a tar file; returns what was left out."""

def copy_tree(source: str, destination: str) -> list[str]:
    """Copy a folder's tree; returns what was left out."""

def busybox_rootfs(destination: str) -> list[str]:
    """Fill a folder with the machine's busybox; returns what was left out."""
