"""Checkpoints of containers: their processes on disk, and back."""

from __future__ import annotations

import os

from rscontainer import _core
from rscontainer._streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, Union

    from typing_extensions import Self

    from rscontainer._core import Container as _Core
    from rscontainer._core import Process as _Init
    from rscontainer._streams import Stream
    from rscontainer.spec import Spec

    CgroupMode = Literal["soft", "full", "strict", "ignore"]
    StrPath = Union[str, "os.PathLike[str]"]


class Checkpoints:
    """What a container can do with criu(8)."""

    _core: _Core

    @classmethod
    def _started(
        cls,
        core: _Core,
        init: _Init,
        args: list[str] | None,
        pipes: Sequence[int | None],
        **text: Any,
    ) -> Self:
        raise NotImplementedError

    def checkpoint(
        self,
        path: StrPath,
        *,
        leave_running: bool = False,
        pre_dump: bool = False,
        parent: StrPath | None = None,
        work: StrPath | None = None,
        tcp_established: bool = False,
        tcp_skip_in_flight: bool = False,
        link_remap: bool = False,
        ext_unix_sk: bool = False,
        shell_job: bool = False,
        file_locks: bool = False,
        auto_dedup: bool = False,
        lazy_pages: bool = False,
        page_server: tuple[str, int] | None = None,
        cgroups: CgroupMode | None = None,
    ) -> None:
        """Write its processes to the folder ``path``, by criu(8); :meth:`restore` brings them back.

        It is stopped afterwards and can be deleted, unless ``leave_running``. ``pre_dump`` writes
        its memory alone and lets it run on; a later checkpoint that names it as its ``parent``,
        relative to ``path``, writes only what has changed since. ``work`` is the folder of criu's
        logs and sockets, by default ``path``.

        ``tcp_established`` takes established TCP connections along, ``tcp_skip_in_flight`` leaves
        out those that nobody has accepted yet, ``link_remap`` takes open files along that have no
        name any more, ``ext_unix_sk`` Unix sockets whose other end is outside, ``shell_job`` a
        session of the caller's, ``file_locks`` locks on files. ``auto_dedup`` takes from the
        images of parents what later ones replace. With ``lazy_pages`` memory is fetched when it is
        used; ``page_server`` is the host and the port that it is sent to. ``cgroups`` is
        ``"soft"``, ``"full"``, ``"strict"`` or ``"ignore"``, as criu(8) has it.

        What criu has begun is undone before an interruption is raised. Raises ``StateError``
        unless it is running or paused, ``ContainerError`` if criu is not installed or refuses,
        with the errors of its log; it runs on then.
        """
        self._core.checkpoint(
            _options(
                path,
                work,
                cgroups,
                parent=None if parent is None else os.fspath(parent),
                leave_running=leave_running,
                pre_dump=pre_dump,
                tcp_established=tcp_established,
                tcp_skip_in_flight=tcp_skip_in_flight,
                link_remap=link_remap,
                ext_unix_sk=ext_unix_sk,
                shell_job=shell_job,
                file_locks=file_locks,
                auto_dedup=auto_dedup,
                lazy_pages=lazy_pages,
                page_server=page_server and {"address": page_server[0], "port": page_server[1]},
            )
        )

    @classmethod
    def restore(
        cls,
        id: str,
        path: StrPath,
        bundle: StrPath = ".",
        *,
        spec: Spec | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        root: StrPath | None = None,
        detach: bool = False,
        work: StrPath | None = None,
        tcp_established: bool = False,
        ext_unix_sk: bool = False,
        shell_job: bool = False,
        file_locks: bool = False,
        auto_dedup: bool = False,
        lazy_pages: bool = False,
        cgroups: CgroupMode | None = None,
        lsm_profile: str | None = None,
        lsm_mount_context: str | None = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> Self:
        """Make a container of the processes that :meth:`checkpoint` wrote to ``path``, running.

        ``bundle`` and ``spec`` are as with :meth:`create`, and must be those of the container that
        was written. Streams take the place of the pipes that it was started with; other files it
        has again. ``tcp_established`` and others are as with :meth:`checkpoint`, and what was
        asked for there is to be asked for here. ``lsm_profile`` (``"TYPE:NAME"``) and
        ``lsm_mount_context`` stand in for the labels in the images. Of hooks, those of prestart
        and createRuntime run.

        Raises ``ContainerError`` if criu(8) is not installed or refuses, and what :meth:`create`
        raises; nothing of the container is left then.
        """
        options = _options(
            path,
            work,
            cgroups,
            tcp_established=tcp_established,
            ext_unix_sk=ext_unix_sk,
            shell_job=shell_job,
            file_locks=file_locks,
            auto_dedup=auto_dedup,
            lazy_pages=lazy_pages,
            lsm_profile=lsm_profile,
            lsm_mount_context=lsm_mount_context,
        )
        with Streams(stdin, stdout, stderr) as streams:
            core, init = _core.Container.restore(
                id,
                os.fspath(bundle),
                None if root is None else os.fspath(root),
                None if spec is None else spec.to_json(),
                options,
                not detach,
                streams.theirs,
            )
            pipes = streams.keep()
        return cls._started(core, init, None, pipes, text=text, encoding=encoding, errors=errors)


def _options(path: StrPath, work: StrPath | None, cgroups: CgroupMode | None, **more: Any) -> str:
    import json  # noqa: PLC0415  # most containers stay where they are

    folders = {
        "images": os.path.abspath(path),
        "work": None if work is None else os.path.abspath(work),
    }
    return json.dumps({**folders, "cgroups": cgroups or "default", **more})
