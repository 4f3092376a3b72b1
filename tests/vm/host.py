"""What this asks of the host; what goes wrong, and what goes on, is said in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# The programs that are started here, and the package of Debian that each is in.
PACKAGES = {
    "debootstrap": "debootstrap",
    "git": "git",
    "mke2fs": "e2fsprogs",
    "qemu-system-x86_64": "qemu-system-x86",
}


class HostError(Exception):
    """To be said to the user, without a traceback."""


def say(line: str) -> None:
    print(f"vm: {line}", file=sys.stderr, flush=True)


def need(*programs: str) -> None:
    """Fail where a program is not installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES[program] for program in missing}))
        raise HostError(f"{', '.join(missing)} not found: apt-get install {packages}")


def python() -> str:
    """The interpreter whose pip is used: the tests' own where `tests/run` has made one."""
    own = Path(os.environ.get("RSCONTAINER_VENV") or ROOT / ".venv", "bin/python")
    chosen = str(own) if own.exists() else sys.executable
    if subprocess.run([chosen, "-c", "import pip"], check=False, capture_output=True).returncode:
        raise HostError(f"{chosen} has no pip: `tests/run --prepare` makes an environment with it")
    return chosen


def logged(command: list[str], log: Path) -> None:
    """Run a program whose output is of interest only if it fails."""
    with log.open("ab") as output:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    if done.returncode != 0:
        lines = log.read_text(errors="replace").splitlines()
        last = "\n".join(lines[-15:])
        raise HostError(f"{command[0]} ended with {done.returncode}; {log} ends with:\n{last}")
