"""A bundle: a folder with a root file system and a ``config.json`` beside it."""

from __future__ import annotations

import io
import os
import sys
import warnings

from rscontainer import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, Protocol, Union

    from rscontainer.spec import Spec

    class _Readable(Protocol):
        def read(self, size: int, /) -> Any: ...

    _Rootfs = Union[str, "os.PathLike[str]", _Readable]

__all__ = ["Bundle"]


class Bundle:
    """A bundle that is there; give it wherever a bundle's path is asked for.

    Raises ``NotFoundError`` where there is no ``config.json``.
    """

    __slots__ = ("_path", "_spec")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        place = os.path.abspath(path)
        _core.bundle_existing(place)
        self._path = place
        self._spec: Spec | None = None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        rootfs: _Rootfs,
        spec: Spec | None = None,
    ) -> Bundle:
        """Make the bundle's folder: the root file system, and the config that runs in it.

        ``rootfs`` is one of

        * a tar stream as ``docker export`` writes it, plain or compressed with gzip or zstd: the
          path of a file, a binary file object, or ``"-"`` for standard input. Entries whose names
          point outside are refused; what a symbolic link inside leads to is looked up inside;
        * the path of a folder, which is copied with its owners, modes, times, links, holes and
          attributes; what is mounted in it is left out;
        * the string ``"busybox"``: this machine's static busybox under all of its names. A folder
          of that name is ``"./busybox"``.

        ``spec`` is written to ``config.json``, by default ``Spec.default()``, for an ordinary user
        and the root of a user namespace ``Spec.default(rootless=True)``; whatever root it names,
        the bundle's is the one made here.

        Root keeps owners and makes devices as recorded. For an ordinary user every file is the
        user's own, whoever it belonged to, also in a container with more ids than one: what the
        user's id is mapped to, root as a rule, owns all of it there, and setuid and setgid programs
        act as that one. Devices and attributes that only root may make are left out, and a
        ``UserWarning`` says which. Only the bundle's owner may enter its folder, for there can be
        setuid programs in it.

        The folder must not exist or be empty, else ``AlreadyExistsError``. It appears whole or not
        at all: after any failure, an interruption too, nothing is left behind.
        """
        # A link to the place stays a link; rename(2) would not go through it.
        place = os.path.realpath(path)
        building = os.path.join(os.path.dirname(place), f".rscontainer-{os.urandom(8).hex()}")
        try:
            _core.bundle_prepare(building, place)
            left_out = _fill(os.path.join(building, "rootfs"), rootfs)
            _rooted(spec).save(os.path.join(building, "config.json"))
            _core.bundle_publish(building, place)
        except BaseException:
            _core.bundle_discard(building)
            raise
        for line in left_out:
            warnings.warn(f"{place}: {line}", stacklevel=2)
        return cls(place)

    @property
    def path(self) -> Path:
        """The bundle's folder, absolute."""
        from pathlib import Path  # noqa: PLC0415  # costs more than the rest of the module

        return Path(self._path)

    @property
    def config(self) -> Path:
        """The config's path."""
        return self.path / "config.json"

    @property
    def rootfs(self) -> Path:
        """The root file system's path, as the config names it."""
        return self.path / (self.spec.root.path or "rootfs")

    @property
    def spec(self) -> Spec:
        """The config, loaded when first asked for; changes are written by its ``save``."""
        if self._spec is None:
            from rscontainer.spec import Spec  # noqa: PLC0415  # not every bundle is looked into

            self._spec = Spec.load(os.path.join(self._path, "config.json"))
        return self._spec

    def __fspath__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"Bundle({self._path!r})"

    def __eq__(self, other: object) -> bool:
        return self._path == other._path if isinstance(other, Bundle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._path)


def _rooted(spec: Spec | None) -> Spec:
    """Give a copy of the config whose root is the bundle's own."""
    from rscontainer.spec import Spec  # noqa: PLC0415  # costs more than the rest of the module

    if spec is None:
        spec = Spec.default(rootless=not _is_hosts_root())
    config = spec.to_dict()
    config["root"] = {**(config.get("root") or {}), "path": "rootfs"}
    return Spec.from_dict(config)


def _is_hosts_root() -> bool:
    """Whether this is root, and not of a user namespace alone, where few ids may exist."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as ids:
            every = ids.read().split() == ["0", "0", "4294967295"]
    except FileNotFoundError:
        # A kernel without user namespaces.
        every = True
    return os.geteuid() == 0 and every


def _fill(destination: str, rootfs: _Rootfs) -> list[str]:
    if isinstance(rootfs, str):
        if rootfs == "busybox":
            return _core.busybox_rootfs(destination)
        if rootfs == "-":
            rootfs = sys.stdin.buffer
    if isinstance(rootfs, (str, os.PathLike)):
        if os.path.isdir(rootfs):
            return _core.copy_tree(os.fspath(rootfs), destination)
        return _core.unpack_file(os.fspath(rootfs), destination)
    if not hasattr(rootfs, "read"):
        kind = type(rootfs).__name__
        raise TypeError(f"rootfs must be a path, a binary file object or 'busybox', not {kind}")
    return _unpack(rootfs, destination)


def _unpack(file: _Readable, destination: str) -> list[str]:
    """Unpack from the descriptor where the file is no more than that, else from its ``read``."""
    plain = _plain(file)
    if plain is None:
        # One call to the system a read: waiting for a full block would hold a slow stream up.
        return _core.unpack(getattr(file, "read1", file.read), destination)
    # What the file has read ahead is not where the descriptor stands.
    os.lseek(plain.fileno(), plain.tell(), os.SEEK_SET)
    try:
        return _core.unpack(plain.fileno(), destination)
    finally:
        plain.seek(os.lseek(plain.fileno(), 0, os.SEEK_CUR))


def _plain(file: _Readable) -> io.FileIO | io.BufferedReader | io.BufferedRandom | None:
    """Give a file on disk as what it is; ``None`` for a pipe and for objects that do more.

    A ``GzipFile`` has a descriptor too, but what it reads is not what is in there.
    """
    if not isinstance(file, (io.FileIO, io.BufferedReader, io.BufferedRandom)):
        return None
    raw = file if isinstance(file, io.FileIO) else file.raw
    return file if type(raw) is io.FileIO and raw.seekable() else None
