"""Containers: created, started, entered, stopped and deleted from this process."""

from __future__ import annotations

import os

from rscontainer import _core
from rscontainer._checkpoint import Checkpoints
from rscontainer._given import argument_list, environment, user_numbers, warn
from rscontainer._resources import Resources
from rscontainer._streams import Streams
from rscontainer.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Union

    from typing_extensions import Self

    from rscontainer._streams import Stream
    from rscontainer.spec import Spec

    StrPath = Union[str, "os.PathLike[str]"]


class Container(Checkpoints, Resources):
    """A container, by its id.

    Made by :meth:`create`, :meth:`run`, :meth:`load` or :meth:`list`. As a context manager it is
    killed and deleted on the way out. Safe to use from several threads at once.
    """

    def __init__(self, core: _core.Container, init: Process | None = None) -> None:
        """Not for callers: use one of the class methods."""
        self._core = core
        self._init = init

    @classmethod
    def create(
        cls,
        id: str,
        bundle: StrPath = ".",
        *,
        spec: Spec | None = None,
        args: Sequence[str] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        terminal: bool | None = None,
        root: StrPath | None = None,
        detach: bool = False,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> Self:
        """Create a container from a bundle, ready to be started (runtime.md#create).

        ``id`` is its name: letters, digits and ``_+-.``, 255 at most. ``bundle`` is the folder
        with ``config.json``; ``spec`` and ``args`` stand in for the config there and for its
        ``process.args``. The streams are as with :class:`subprocess.Popen`: ``None`` to inherit,
        ``PIPE``, ``DEVNULL``, ``STDOUT``, a descriptor or a file; ``text``, ``encoding`` and
        ``errors`` likewise. ``terminal`` gives the process a pseudo-terminal;
        ``None`` does what the config says, but where a stream is given. ``root`` is the folder of
        containers' states, by default ``/run/rscontainer``, for an ordinary user
        ``$XDG_RUNTIME_DIR/rscontainer``.

        The container is killed and deleted when this Python ends, unless ``detach``.

        Raises ``SpecError`` for a config that is not valid, ``NotFoundError`` if there is no
        bundle, ``AlreadyExistsError`` if the id is taken, ``SystemCallError`` if the kernel
        refuses a step; nothing of the container is left then.
        """
        return cls._make(
            False,
            id,
            bundle,
            spec,
            args,
            (stdin, stdout, stderr),
            terminal,
            root,
            detach,
            text=text,
            encoding=encoding,
            errors=errors,
        )

    @classmethod
    def run(
        cls,
        id: str,
        bundle: StrPath = ".",
        *,
        spec: Spec | None = None,
        args: Sequence[str] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        terminal: bool | None = None,
        root: StrPath | None = None,
        detach: bool = False,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> Self:
        """Create a container and start it; arguments and exceptions as :meth:`create`.

        ::

            with Container.run("box", "bundle", stdout=rsc.PIPE) as c:
                print(c.init.stdout.read())
        """
        return cls._make(
            True,
            id,
            bundle,
            spec,
            args,
            (stdin, stdout, stderr),
            terminal,
            root,
            detach,
            text=text,
            encoding=encoding,
            errors=errors,
        )

    @classmethod
    def _make(
        cls,
        start: bool,
        id: str,
        bundle: StrPath,
        spec: Spec | None,
        args: Sequence[str] | None,
        stdio: tuple[Stream, Stream, Stream],
        terminal: bool | None,
        root: StrPath | None,
        detach: bool,
        **text: Any,
    ) -> Self:
        if terminal is None and any(stream is not None for stream in stdio):
            terminal = False
        args = argument_list(args)
        with Streams(*stdio) as streams:
            core, init = _core.Container.create(
                id,
                os.fspath(bundle),
                None if root is None else os.fspath(root),
                None if spec is None else spec.to_json(),
                args,
                terminal,
                start,
                not detach,
                streams.theirs,
            )
            pipes = streams.keep()
        return cls._started(core, init, args, pipes, **text)

    @classmethod
    def _started(
        cls,
        core: _core.Container,
        init: _core.Process,
        args: list[str] | None,
        pipes: Sequence[int | None],
        **text: Any,
    ) -> Self:
        container = cls(core, Process(init, args, pipes, **text))
        try:
            warn(init.warnings)
        except BaseException:
            container.__exit__()
            raise
        return container

    @classmethod
    def load(cls, id: str, root: StrPath | None = None) -> Self:
        """Find a container that exists, whoever created it. Raises ``NotFoundError``."""
        return cls(_core.Container.load(id, None if root is None else os.fspath(root)))

    @classmethod
    def list(cls, root: StrPath | None = None) -> list[Self]:
        """All containers, sorted by id."""
        return [
            cls(core) for core in _core.Container.list(None if root is None else os.fspath(root))
        ]

    @property
    def id(self) -> str:
        """Its name."""
        return self._core.id

    @property
    def status(self) -> str:
        """``creating``, ``created``, ``running``, ``paused`` or ``stopped``, as it is now.

        Raises ``NotFoundError`` once it is deleted.
        """
        return self._core.status

    @property
    def pid(self) -> int:
        """The number of its init on the host; 0 once it has ended."""
        return int(self.state()["pid"])

    def state(self) -> dict[str, Any]:
        """Its state as the specification has it (runtime.md#state), with ``created``, ``owner``.

        Raises ``NotFoundError`` once it is deleted.
        """
        import json  # noqa: PLC0415  # most callers never ask

        return dict(json.loads(self._core.state()))

    @property
    def init(self) -> Process:
        """The process of its own program.

        Raises ``StateError`` for one that had ended before this object found it.
        """
        if self._init is None:
            found = self._core.find_init()
            if found is None:
                from rscontainer.errors import StateError  # noqa: PLC0415  # rare

                raise StateError(f"the init of container {self.id!r} has ended, and is not known")
            self._init = Process(found)
        return self._init

    def start(self) -> None:
        """Run its program (runtime.md#start).

        Raises ``StateError`` unless its status is ``created``, ``SystemCallError`` if the program
        cannot be executed.
        """
        self._core.start()

    def exec(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: StrPath | None = None,
        user: int | str | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        terminal: bool = False,
        cgroup: str | Sequence[str] = (),
        detach: bool = False,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> Process:
        """Run a further program in it, and return when it runs.

        ``env`` is the whole environment, by default that of the config; ``cwd`` likewise;
        ``user`` is a number or ``"uid:gid"``, and what it does not say of the config's user stays:
        its group, further groups, umask. Streams as in :meth:`create`. ``cgroup`` is the path of
        one that is there, below the container's own; with cgroup v1 also a list of such paths, each
        of the controllers that it names, as in ``"cpu,cpuacct:part"`` (cgroups(7)). The process is
        killed when this Python ends, unless ``detach``.

        Raises ``StateError`` unless it is running or created, ``SystemCallError`` if the program
        cannot be executed, ``NotFoundError`` if there is no such cgroup.
        """
        args = argument_list(args) or []
        with Streams(stdin, stdout, stderr) as streams:
            core = self._core.exec(
                args,
                None if env is None else environment(env),
                None if cwd is None else os.fspath(cwd),
                user_numbers(user),
                terminal,
                [cgroup] if isinstance(cgroup, str) else list(cgroup),
                not detach,
                streams.theirs,
            )
            pipes = streams.keep()
            process = Process(core, args, pipes, text=text, encoding=encoding, errors=errors)
        try:
            warn(core.warnings)
        except BaseException:
            process.kill()
            process.wait()
            process.close()
            raise
        return process

    def pause(self) -> None:
        """Freeze all of its processes. Raises ``StateError`` unless it is running."""
        self._core.pause()

    def resume(self) -> None:
        """Let them run on. Raises ``StateError`` unless it is paused."""
        self._core.resume()

    def kill(self, signal: int | str = "TERM", *, all: bool = False) -> None:
        """Send a signal to its init, or to ``all`` of its processes (runtime.md#kill).

        ``signal`` is a number or a name with or without SIG. An init ignores what it does not
        handle, but for KILL and STOP (pid_namespaces(7)); one that is not started yet ends on TERM,
        INT and HUP too. KILL reaches all processes of a container without a pid namespace of its
        own. Raises ``StateError`` once it is stopped.
        """
        number = signal if isinstance(signal, str) else str(int(signal))
        self._core.kill(number, all)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of its init and return its ``returncode``; as ``Process.wait``."""
        return self.init.wait(timeout)

    def delete(self, force: bool = False) -> None:
        """Take away all that was made for it (runtime.md#delete).

        Raises ``StateError`` while it runs, unless ``force``, which kills it first. With ``force``
        one that is gone already is no error, else ``NotFoundError``.
        """
        self._core.delete(force)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._core.delete(True)
        finally:
            if self._init is not None:
                self._init.close()

    def __repr__(self) -> str:
        return f"<Container {self.id!r}>"
