#!/usr/bin/env python3
"""Run the validation programs of opencontainers/runtime-tools against OCI runtimes.

The suite is a folder with what was built of it: ``validation/`` with a program a test,
``runtimetest`` (static) and ``rootfs-amd64.tar.gz``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from typing import TYPE_CHECKING

import supervised
from supervised import FAILED, PASSED, SKIPPED, Ended, Runtime, Test

if TYPE_CHECKING:
    from pathlib import Path

TEST = re.compile(r"^(not ok|ok)\b[ \t]*\d*[ \t]*(?:- )?(.*)$", re.MULTILINE)
PLAN = re.compile(r"^1\.\.(\d+)", re.MULTILINE)
# The value goes on over the lines that are indented more.
ERROR = re.compile(r"^ *\"?error\"?: *(.*(?:\n {4,}\S.*)*)", re.MULTILINE)


def judge(ended: Ended) -> tuple[str, str]:
    """What became of a program, from its TAP."""
    tests = TEST.findall(ended.output)
    wrong = [about for result, about in tests if result == "not ok" and "# TODO" not in about]
    errors = ERROR.findall(ended.output)
    # A program may print several documents, each with a plan.
    plans = [int(plan) for plan in PLAN.findall(ended.output)]
    if ended.status != 0:
        return FAILED, f"{ended.describe()}\n{ended.output}"
    if wrong:
        return FAILED, "\n".join([*wrong, ended.output])
    # Two programs say nothing where a container is refused, as it should be.
    if ("TAP version" in ended.output) != bool(plans) or sum(plans) != len(tests):
        return FAILED, f"{len(tests)} results, {sum(plans)} planned\n{ended.output}"
    # The programs about hooks plan nothing whatever happens, and say only here what went wrong.
    if not tests and errors:
        return FAILED, f"{errors[0]}\n{ended.output}"
    if tests and all("# SKIP" in f" {about}" for _, about in tests):
        return SKIPPED, ended.output
    return PASSED, ""


def run_program(program: Path, suite: Path, runtime: Runtime, timeout: float) -> Test:
    with supervised.scratch() as scratch:
        # The suite leaves containers behind, among everybody's but for a root of their own.
        root, command = scratch / "root", scratch / "runtime"
        root.mkdir()
        invocation = shlex.join([str(runtime.path), "--root", str(root)])
        command.write_text(f'#!/bin/sh\nexec {invocation} "$@"\n')
        command.chmod(0o755)
        env = {**os.environ, "RUNTIME": str(command), "TMPDIR": str(scratch)}
        ended = supervised.run([program], timeout, suite, env)
        for left in sorted(root.iterdir()):
            subprocess.run(
                [command, "delete", "--force", left.name], capture_output=True, check=False
            )
    status, detail = judge(ended)
    return Test(program.name, status, round(ended.seconds, 2), detail)


def main() -> None:
    arguments = supervised.parser(__doc__.splitlines()[0], timeout=60).parse_args()
    suite = arguments.suite.resolve()
    programs = sorted((suite / "validation").iterdir())
    if arguments.only:
        programs = [program for program in programs if program.name in arguments.only]
    supervised.become_subreaper()
    for runtime in arguments.runtimes:
        begun = time.monotonic()
        for program in programs:
            runtime.add(run_program(program, suite, runtime, arguments.timeout))
        runtime.seconds = round(time.monotonic() - begun, 1)
    supervised.report("runtime-tools", arguments.runtimes, arguments.json)


if __name__ == "__main__":
    main()
