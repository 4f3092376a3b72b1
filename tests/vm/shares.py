"""Several machines for one suite, each with a share of its files: no test meets another's."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from host import ROOT, say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# What pytest collects where no file is named.
SUITE = "tests/test_*.py"
# But for what guest/run-tests has it ignore, which a file that is named defeats.
LEFT_OUT = ("tests/test_architecture.py", "tests/test_packaging.py")
# An emulated guest of two processors keeps one of the host's busy, and hardly more.
MOST = 2
# pytest's exit status for that.
NO_TESTS = 5


def usual_number(arguments: Sequence[str], emulated: bool) -> int:
    """One machine, but for the whole suite where that would take an hour."""
    whole = not any(one in ("-k", "-m") or file_of(one).exists() for one in arguments)
    return min(MOST, os.cpu_count() or 1) if whole and emulated else 1


def share_out(arguments: Sequence[str], number: int) -> list[list[str]]:
    """What of pytest's arguments names tests, or every file of the suite, in so many shares."""
    named = [one for one in arguments if file_of(one).exists()]
    every = sorted(set(ROOT.glob(SUITE)) - {ROOT / name for name in LEFT_OUT})
    files = named or [str(path.relative_to(ROOT)) for path in every]
    shares = [files[first::number] for first in range(number)]
    return [share for share in shares if share]


def file_of(argument: str) -> Path:
    return ROOT / argument.partition("::")[0]


def run_shares(shares: list[list[str]], place: Path, wheel: Path) -> int:
    """Run this program once for each, all at a time; gives the worst exit status."""
    shared = {name for share in shares for name in share}
    asked = [one for one in sys.argv[1:] if one not in shared]
    logs = [place / str(number) / "run.log" for number in range(1, len(shares) + 1)]
    with ExitStack() as ended:
        running = []
        for share, log in zip(shares, logs):
            log.parent.mkdir(exist_ok=True)
            say(f"{len(share)} files of tests for a machine of their own, which says so in {log}")
            more = ["--machines", "1", "--wheel", str(wheel), "--results", str(log.parent)]
            command = [sys.executable, "-B", sys.argv[0], *asked, *more, *share]
            with log.open("wb") as output:
                process = subprocess.Popen(command, stdout=output, stderr=output)
            ended.callback(end, process)
            running.append(process)
        statuses = [process.wait() for process in running]
    for log in logs:
        print(log.read_text(errors="replace"), end="", flush=True)
    say(f"exit statuses {statuses}; reports are in the folders of {place}")
    # Where tests are chosen by name, one share may have none of them.
    return max((one for one in statuses if one != NO_TESTS), default=NO_TESTS)


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks one to end, which takes its machine with it."""
    if process.poll() is None:
        process.terminate()
        process.wait()
