"""The walkthrough: a busybox bundle, run as a container.

Under a terminal it gives a prompt, in which ``ps aux`` shows ``sh`` as PID 1; else it runs
``ps aux`` alone.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import rscontainer as rsc


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        bundle = rsc.Bundle.create(Path(folder) / "my_container", rootfs="busybox")
        if sys.stdin.isatty() and sys.stdout.isatty():
            return rsc.run(bundle).returncode
        result = rsc.run(bundle, ["ps", "aux"], capture_output=True, text=True, check=True)
        print(result.stdout, end="")
        return result.returncode


if __name__ == "__main__":
    sys.exit(main())
