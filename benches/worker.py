"""A Python process that runs containers on request; run.py drives it over two pipes.

A process of its own, so that the benchmark stays small while this one may hold gigabytes.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter_ns
from typing import Any

import rscontainer as rsc
from rscontainer import Container

TRUE = ["/bin/true"]

_numbers = itertools.count()


class Worker:
    def __init__(self, root: str, true: str, idle: str) -> None:
        self._root = root
        self._true = true
        self._idle = idle
        self._held: list[Container] = []
        self._exec_in: Container | None = None

    def hello(self) -> str:
        try:
            return version("rscontainer")
        except PackageNotFoundError:
            return "?"

    def run(self, stdio: str) -> int:
        start = perf_counter_ns()
        if stdio == "pipe":
            done = rsc.run(bundle=self._true, args=TRUE, root=self._root, capture_output=True)
        else:
            null = rsc.DEVNULL
            done = rsc.run(
                bundle=self._true,
                args=TRUE,
                root=self._root,
                stdin=null,
                stdout=null,
                stderr=null,
            )
        took = perf_counter_ns() - start
        if done.returncode != 0:
            raise RuntimeError(f"/bin/true gave {done.returncode}")
        return took

    def _create(self, bundle: str) -> Container:
        null = rsc.DEVNULL
        identity = f"bench-{os.getpid()}-{next(_numbers)}"
        return Container.create(
            identity, bundle=bundle, root=self._root, stdin=null, stdout=null, stderr=null
        )

    def verbs(self) -> dict[str, int]:
        began = perf_counter_ns()
        container = self._create(self._true)
        created = perf_counter_ns()
        try:
            container.start()
            started = perf_counter_ns()
            container.wait()
            ended = perf_counter_ns()
        except BaseException:
            container.delete(force=True)
            raise
        container.delete()
        deleted = perf_counter_ns()
        return {"create": created - began, "start": started - created, "delete": deleted - ended}

    def exec(self) -> int:
        if self._exec_in is None:
            self.hold(1)
            self._exec_in = self._held[-1]
        null = rsc.DEVNULL
        start = perf_counter_ns()
        process = self._exec_in.exec(TRUE, stdin=null, stdout=null, stderr=null)
        code = process.wait()
        took = perf_counter_ns() - start
        if code != 0:
            raise RuntimeError(f"/bin/true gave {code}")
        return took

    def many(self, threads: int, each: int) -> int:
        """How long that many threads take for that many containers each."""
        failures: list[Exception] = []
        together = threading.Barrier(threads + 1)

        def work() -> None:
            together.wait()
            try:
                for _ in range(each):
                    self.run("null")
            except Exception as error:  # noqa: BLE001  # raised again by who joins the thread
                failures.append(error)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        together.wait()
        start = perf_counter_ns()
        for worker in workers:
            worker.join()
        took = perf_counter_ns() - start
        if failures:
            raise failures[0]
        return took

    def hold(self, count: int) -> list[tuple[str, int | None]]:
        held: list[tuple[str, int | None]] = []
        for _ in range(count):
            container = self._create(self._idle)
            self._held.append(container)
            container.start()
            held.append((container.id, container.pid))
        return held

    def release(self) -> None:
        self._exec_in = None
        while self._held:
            self._held.pop().delete(force=True)


def main() -> None:
    root, true, idle, resident = sys.argv[1:]
    # Standard output is the pipe to the benchmark, and no container shall write into it.
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    questions = os.fdopen(os.dup(0))
    os.dup2(null, 0)
    memory = bytearray(int(resident))
    # Zeroed memory is not there until it is written to.
    memory[::4096] = b"\1" * len(memory[::4096])
    worker = Worker(root, true, idle)
    with ExitStack() as cleanup:
        cleanup.callback(worker.release)
        for question in questions:
            verb, *arguments = json.loads(question)
            answer: dict[str, Any]
            try:
                answer = {"value": getattr(worker, verb)(*arguments)}
            except Exception as error:  # noqa: BLE001  # raised again by who asked
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
