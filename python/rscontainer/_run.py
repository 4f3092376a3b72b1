"""``run``: a container's whole life in one call, in the manner of :func:`subprocess.run`."""

from __future__ import annotations

import os

from rscontainer import errors as _errors
from rscontainer._streams import PIPE
from rscontainer.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rscontainer._streams import Stream
    from rscontainer.container import StrPath
    from rscontainer.spec import Spec


class CompletedProcess:
    """What is left of a container that has run."""

    __slots__ = ("args", "id", "returncode", "stderr", "stdout")

    def __init__(
        self, id: str, args: Sequence[str] | None, returncode: int, stdout: Any, stderr: Any
    ) -> None:
        self.id = id
        """The container's name; it is deleted by now."""
        self.args = args
        """What it ran; ``None`` where the config said it."""
        self.returncode = returncode
        """Its exit status, or a signal's number negated."""
        self.stdout = stdout
        """Its output where that was a pipe: ``bytes``, or ``str`` if that was asked for."""
        self.stderr = stderr
        """Its errors, likewise."""

    def check_returncode(self) -> None:
        """Raise ``CalledProcessError`` if it failed."""
        if self.returncode:
            shown = "the config's process" if self.args is None else list(self.args)
            raise _errors.CalledProcessError(self.returncode, shown, self.stdout, self.stderr)

    def __repr__(self) -> str:
        parts = [f"id={self.id!r}", f"args={self.args!r}", f"returncode={self.returncode!r}"]
        parts += [
            f"{name}={value!r}"
            for name, value in (("stdout", self.stdout), ("stderr", self.stderr))
            if value is not None
        ]
        return f"CompletedProcess({', '.join(parts)})"


def run(
    bundle: StrPath = ".",
    args: Sequence[str] | None = None,
    *,
    id: str | None = None,
    spec: Spec | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    input: str | bytes | None = None,
    capture_output: bool = False,
    text: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    timeout: float | None = None,
    check: bool = False,
    terminal: bool | None = None,
    root: StrPath | None = None,
) -> CompletedProcess:
    """Run a bundle to its end, delete the container, and say how it went.

    ``args`` stands in for the config's ``process.args``, ``id`` is made up unless given, the rest
    is as with :func:`subprocess.run` and :meth:`Container.create`. With a terminal, the caller's
    own is joined to it until the program ends.

    Raises ``TimeoutExpired`` after ``timeout`` seconds, ``CalledProcessError`` if it failed and
    ``check`` is set, else what ``Container.create`` raises; the container is gone in every case.
    """
    if input is not None:
        if stdin is not None:
            raise ValueError("stdin and input may not both be used")
        stdin = PIPE
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("stdout and stderr may not be used with capture_output")
        stdout = stderr = PIPE
    if id is None:
        id = f"run-{os.urandom(8).hex()}"
    with Container.run(
        id,
        bundle,
        spec=spec,
        args=args,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        terminal=terminal,
        root=root,
        text=text,
        encoding=encoding,
        errors=errors,
    ) as container:
        init = container.init
        if init.terminal is not None:
            out = err = None
            init.interact(timeout=timeout)
        else:
            try:
                out, err = init.communicate(input, timeout)
            except _errors.TimeoutExpired as expired:
                # Decoded as what a run in time gives, and complete: the pipes end with the init.
                init.kill()
                expired.output, expired.stderr = init.communicate()
                raise
    completed = CompletedProcess(id, args, init.wait(), out, err)
    if check:
        completed.check_returncode()
    return completed
