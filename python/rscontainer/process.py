"""A process in a container, in the manner of :class:`subprocess.Popen`."""

from __future__ import annotations

import io
import sys

from rscontainer import _core
from rscontainer import errors as _errors
from rscontainer._streams import Terminal
from rscontainer.errors import ContainerError

# As everywhere on Linux; the enumeration of signal would double what this module takes to import.
_SIGKILL, _SIGTERM = 9, 15

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO, Any

    from typing_extensions import Self


class Process:
    """A process in a container: its init, or one that ``Container.exec`` started.

    Safe to use from several threads at once. As a context manager it closes its streams and waits
    for its end.
    """

    args: Sequence[str] | None
    """What it was started with; ``None`` where the config says it."""
    stdin: IO[Any] | None
    """Its input, where that is a pipe: binary, or text if that was asked for."""
    stdout: IO[Any] | None
    """Its output, where that is a pipe."""
    stderr: IO[Any] | None
    """Its errors, where those are a pipe of their own."""
    terminal: Terminal | None
    """The other end of its terminal, where it has one."""

    def __init__(
        self,
        core: _core.Process,
        args: Sequence[str] | None = None,
        pipes: Sequence[int | None] = (None, None, None),
        *,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> None:
        self._core = core
        self.args = args
        self._text = text or encoding is not None or errors is not None
        self._encoding, self._errors = encoding, errors
        self.stdin, self.stdout, self.stderr = (
            None if pipe is None else self._open(pipe, mode)
            for pipe, mode in zip(pipes, ("wb", "rb", "rb"))
        )
        terminal = core.terminal()
        self.terminal = None if terminal is None else Terminal(terminal)
        self._communication: _core.Communication | None = None

    def _open(self, pipe: int, mode: str) -> IO[Any]:
        file: Any = open(pipe, mode)  # noqa: SIM115  # it is the process's until it is closed
        if not self._text:
            return file  # type: ignore[no-any-return]
        return io.TextIOWrapper(
            file, encoding=self._encoding, errors=self._errors, write_through=mode == "wb"
        )

    @property
    def pid(self) -> int:
        """Its number on the host."""
        return self._core.pid

    def fileno(self) -> int:
        """Its pidfd: readable once it has ended (pidfd_open(2)). It is closed with this object."""
        return self._core.fileno()

    @property
    def returncode(self) -> int | None:
        """How it ended, if that is known by now: its exit status, or a signal's number negated.

        Raises ``ContainerError`` where it ended and its launcher died with the knowledge.
        """
        return self._core.returncode

    @property
    def oom_killed(self) -> bool | None:
        """Whether it was killed because memory ran out, if that is known by now.

        True where it ended by SIGKILL in a container in which the kernel has killed somebody for
        want of memory; ``None`` while it runs, or where nobody counts that.
        """
        return self._core.oom_killed

    def poll(self) -> int | None:
        """Look whether it has ended: its ``returncode`` or ``None``."""
        return self._core.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its ``returncode``.

        Raises ``TimeoutExpired`` after ``timeout`` seconds; it runs on then.
        """
        code = self._core.wait(timeout)
        if code is None:
            raise _errors.TimeoutExpired(self._shown(), timeout or 0.0)
        return code

    def _shown(self) -> Any:
        return "the config's process" if self.args is None else list(self.args)

    def communicate(
        self, input: str | bytes | None = None, timeout: float | None = None
    ) -> tuple[Any, Any]:
        """Write ``input``, read output and errors to their end, and wait for the process's end.

        Returns both, each ``None`` where it is no pipe. Raises ``TimeoutExpired`` after ``timeout``
        seconds, with what came so far; called again, it goes on and nothing is lost.
        """
        import time  # noqa: PLC0415  # only where there is something to carry

        until = None if timeout is None else time.monotonic() + timeout
        if self._communication is None:
            self._communication = self._begin(input)
        elif input:
            raise ValueError("cannot send input after starting communication")
        done = self._communication.run(timeout)
        left = None if until is None else max(0.0, until - time.monotonic())
        if not done or self._core.wait(left) is None:
            out, err = self._communication.output()
            raise _errors.TimeoutExpired(self._shown(), timeout or 0.0, output=out, stderr=err)
        out, err = map(self._decoded, self._communication.output(), (self.stdout, self.stderr))
        self.close()
        return out, err

    def _begin(self, data: str | bytes | None) -> _core.Communication:
        if data and self.stdin is None:
            raise ValueError("input needs stdin=PIPE")
        if isinstance(data, str):
            if not isinstance(self.stdin, io.TextIOWrapper):
                raise TypeError("input must be bytes, for the streams are not text")
            data = data.encode(self.stdin.encoding, self.stdin.errors or "strict")
        elif data is not None and self._text:
            raise TypeError("input must be str, for the streams are text")
        stdin, stdout, stderr = (
            None if file is None or file.closed else file.fileno()
            for file in (self.stdin, self.stdout, self.stderr)
        )
        communication = _core.Communication(data or b"", stdin, stdout, stderr)
        if self.stdin is not None:
            # The carrier has a copy of its own, which it closes when all is written.
            _close_quietly(self.stdin)
        return communication

    def _decoded(self, data: bytes | None, file: IO[Any] | None) -> Any:
        if data is None or not isinstance(file, io.TextIOWrapper):
            return data
        text = data.decode(file.encoding, file.errors or "strict")
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def send_signal(self, signal: int) -> None:
        """Send a signal; nothing happens once it has ended. Raises ``SystemCallError``."""
        self._core.send_signal(int(signal))

    def terminate(self) -> None:
        """Send SIGTERM, which the init of a pid namespace ignores unless it handles it."""
        self.send_signal(_SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; an init takes all of its pid namespace along."""
        self.send_signal(_SIGKILL)

    def resize(self, rows: int, cols: int) -> None:
        """Set the size of its terminal's window in characters.

        Raises ``ContainerError`` if it has no terminal.
        """
        self._core.resize(rows, cols)

    def interact(self, stdin: Any = None, stdout: Any = None, timeout: float | None = None) -> int:
        """Join its terminal to the caller's own until it ends, and return its ``returncode``.

        The caller's terminal, ``sys.stdin`` and ``sys.stdout`` unless given, is in raw mode
        meanwhile and its window's size is passed on; its settings are restored whatever happens.
        What is no terminal is joined as it is. Raises ``ContainerError`` if the process has none,
        ``TimeoutExpired`` after ``timeout`` seconds; it runs on then.
        """
        if self.terminal is None:
            raise ContainerError("the process has no terminal; ask for one with terminal=True")
        streams = [sys.stdin if stdin is None else stdin, sys.stdout if stdout is None else stdout]
        streams[1].flush()
        numbers = [stream if isinstance(stream, int) else stream.fileno() for stream in streams]
        if not self._core.interact(numbers[0], numbers[1], timeout):
            raise _errors.TimeoutExpired(self._shown(), timeout or 0.0)
        return self.wait()

    def close(self) -> None:
        """Close its streams and the terminal, not the process."""
        for file in (self.stdin, self.stdout, self.stderr, self.terminal):
            if file is not None:
                _close_quietly(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.wait()

    def __repr__(self) -> str:
        return f"<Process {self.pid}: args={self._shown()!r}>"


def _close_quietly(file: IO[Any]) -> None:
    # What was still to be flushed is of no use to a reader that is gone.
    try:  # noqa: SIM105  # contextlib would be imported for this alone
        file.close()
    except BrokenPipeError:
        pass
