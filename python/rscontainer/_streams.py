"""Standard streams of a process in a container, given as :mod:`subprocess` takes them."""

from __future__ import annotations

import errno
import io
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, Union

    from typing_extensions import Self

    class HasFileno(Protocol):
        """A file, as far as its descriptor goes."""

        def fileno(self) -> int: ...

    Stream = Union[None, int, HasFileno]

# As in subprocess, whose constants are these numbers too.
PIPE = -1
"""A new pipe to the process, or from it."""
STDOUT = -2
"""For ``stderr``: wherever ``stdout`` goes."""
DEVNULL = -3
"""``/dev/null``."""


class Streams:
    """Both ends of a process's standard streams.

    ``theirs`` are the descriptors that the process gets, ``ours`` the caller's ends of pipes.
    """

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream) -> None:
        self._opened: list[int] = []
        self.ours: list[int | None] = [None, None, None]
        try:
            theirs = [self._open(0, stdin), self._open(1, stdout)]
            theirs.append(theirs[1] if stderr == STDOUT else self._open(2, stderr))
        except BaseException:
            self.close()
            raise
        self.theirs = (theirs[0], theirs[1], theirs[2])

    def _open(self, number: int, stream: Stream) -> int:
        name = ("stdin", "stdout", "stderr")[number]
        if stream is None:
            return number
        if stream == PIPE:
            ends = os.pipe()
            self._opened += ends
            # Input is read by the process and written by us; the others the other way round.
            theirs, ours = ends if number == 0 else ends[::-1]
            self.ours[number] = ours
            return theirs
        if stream == DEVNULL:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            self._opened.append(null)
            return null
        if isinstance(stream, int):
            if stream < 0:
                raise ValueError(
                    f"{name}={stream} is neither a descriptor nor one of "
                    "PIPE, DEVNULL and, for stderr, STDOUT"
                )
            return stream
        if not hasattr(stream, "fileno"):
            kind = type(stream).__name__
            raise TypeError(
                f"{name} must be None, PIPE, DEVNULL, a descriptor or a file, not {kind}"
            )
        return stream.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keep(self) -> list[int | None]:
        """Give the caller's ends away: they are the receiver's to close."""
        for ours in self.ours:
            if ours is not None:
                self._opened.remove(ours)
        return self.ours

    def close(self) -> None:
        """Close what was opened here and not given away."""
        while self._opened:
            os.close(self._opened.pop())


class Terminal(io.FileIO):
    """The caller's end of a process's terminal: what is written is typed, what is read was shown.

    Reading gives ``b""`` when no process has the other end open any more.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "r+b")

    def resize(self, rows: int, cols: int) -> None:
        """Set the window's size in characters; who is in the foreground gets SIGWINCH.

        Raises ``SystemCallError``.
        """
        from rscontainer import _core  # noqa: PLC0415  # the core imports this package's errors

        _core.resize_terminal(self.fileno(), rows, cols)

    def read(self, size: int | None = -1, /) -> Any:
        """Read once, up to ``size`` bytes; everything to the end if that is negative."""
        if size is None or size < 0:
            return self.readall()
        try:
            return super().read(size)
        except OSError as error:
            return _end(error)

    def readall(self) -> Any:
        """Read until no process has the other end open."""
        return b"".join(iter(lambda: self.read(65536), b""))

    def readinto(self, buffer: Any, /) -> Any:
        """Read once into a buffer; 0 at the end."""
        try:
            return super().readinto(buffer)
        except OSError as error:
            return len(_end(error))


def _end(error: OSError) -> bytes:
    """Take EIO for what it means of a terminal: the other end is closed."""
    if error.errno != errno.EIO:
        raise error
    return b""
