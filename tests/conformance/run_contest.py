#!/usr/bin/env python3
"""Run youki's contest against OCI runtimes, one process a group of tests.

The suite is a folder with what was built of it: ``contest``, ``runtimetest`` (static) and
``bundle.tar.gz``; and ``tests.txt`` with the names of the tests, ``group::test`` a line, for
contest lists groups only, and gives none of a group's results once one of its tests has panicked.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import supervised
from supervised import FAILED, PASSED, SKIPPED, Ended, Runtime, Test

if TYPE_CHECKING:
    from pathlib import Path

RESULT = re.compile(r"^\d+ / \d+ : (.+) : (ok|not ok|skipped)$")
STATUS = {"ok": PASSED, "not ok": FAILED, "skipped": SKIPPED}
PANIC = re.compile(r"^thread .* panicked at .*\n.*", re.MULTILINE)


def parse(group: str, ended: Ended) -> list[Test] | None:
    """The tests of a group, if it came to its end."""
    tests: list[Test] = []
    started = False
    for line in ended.output.splitlines():
        result = RESULT.match(line)
        if line == f"# End group {group}":
            return tests
        if line == f"# Start group {group}":
            started = True
        elif started and result:
            name, word = result.groups()
            tests.append(Test(f"{group}::{name}", STATUS[word], round(ended.seconds, 2)))
        elif tests and tests[-1].status != PASSED:
            tests[-1].detail += f"{line.strip()}\n"
    return None


class Contest:
    """The suite, about to be run."""

    def __init__(self, suite: Path, timeout: float) -> None:
        self.suite = suite
        self.timeout = timeout

    def groups(self) -> list[str]:
        # It unpacks a bundle even for that.
        with supervised.scratch() as scratch:
            listed = subprocess.run(
                [self.suite / "contest", "list"],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                cwd=self.suite,
                env={**os.environ, "TMPDIR": str(scratch)},
            )
        return sorted(listed.stdout.split())

    def run(self, selection: str, runtime: Runtime) -> Ended:
        command: list[str | Path] = [self.suite / "contest", "run", "--runtime", runtime.path]
        command += ["--runtimetest", self.suite / "runtimetest", "-t", selection]
        with supervised.scratch() as scratch, supervised.new_cgroups_removed():
            # What the suite thinks a runtime cannot do, it does not try.
            env = {**os.environ, "TMPDIR": str(scratch), "RUNTIME_KIND": runtime.name}
            ended = supervised.run(command, self.timeout, self.suite, env)
        runtime.seconds += ended.seconds
        return ended


def lost(name: str, ended: Ended) -> Test:
    panic = PANIC.search(ended.output)
    detail = panic[0] if panic else ended.describe()
    return Test(name, FAILED, round(ended.seconds, 2), f"{detail}\n{ended.output}")


def known_names(suite: Path) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    file = suite / "tests.txt"
    for name in file.read_text().splitlines() if file.exists() else ():
        note(names, name)
    return names


def note(names: dict[str, set[str]], name: str) -> None:
    names.setdefault(name.partition("::")[0], set()).add(name)


def main() -> None:
    arguments = supervised.parser(__doc__.splitlines()[0], timeout=120).parse_args()
    contest = Contest(arguments.suite.resolve(), arguments.timeout)
    names = known_names(contest.suite)
    groups = contest.groups()
    if arguments.only:
        groups = [group for group in groups if group in arguments.only]
    supervised.become_subreaper()
    panicked: list[tuple[Runtime, str, Ended]] = []
    for runtime in arguments.runtimes:
        for group in groups:
            ended = contest.run(group, runtime)
            tests = parse(group, ended)
            if tests is None:
                panicked.append((runtime, group, ended))
                continue
            for test in tests:
                note(names, test.name)
                runtime.add(test)
    # One by one, for the first panic ended them all.
    for runtime, group, ended in panicked:
        for name in sorted(names.get(group, ())):
            alone = contest.run(name, runtime)
            for test in parse(group, alone) or [lost(name, alone)]:
                runtime.add(test)
        if group not in names:
            runtime.add(lost(f"{group}::*", ended))
    supervised.report("contest", arguments.runtimes, arguments.json)


if __name__ == "__main__":
    main()
