"""The bundle that every competitor runs: busybox under the repository's own configuration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

CONFIG = Path(__file__).resolve().parent.parent / "tests/bundles/busybox/config.json"

TRUE = ["/bin/true"]
IDLE = ["/bin/sleep", "1000000"]


def find_busybox() -> Path:
    found = shutil.which("busybox")
    if found is None:
        raise SystemExit("no busybox on PATH: install busybox-static")
    return Path(found).resolve()


def make_rootfs(rootfs: Path) -> None:
    busybox = find_busybox()
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (rootfs / folder).mkdir(parents=True)
    inside = rootfs / "bin/busybox"
    shutil.copy2(busybox, inside)
    listed = subprocess.run([inside, "--list"], check=True, capture_output=True, text=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            os.link(inside, rootfs / "bin" / applet)


def make_bundles(folder: Path) -> tuple[Path, Path]:
    """Two bundles over one rootfs: the first ends at once, the second never."""
    config = json.loads(CONFIG.read_text())
    # A release candidate of the specification is more than some runtimes accept.
    config["ociVersion"] = "1.0.0"
    config["process"]["terminal"] = False
    config["process"].pop("consoleSize", None)
    rootfs = folder / "true/rootfs"
    make_rootfs(rootfs)
    for name, args in (("true", TRUE), ("idle", IDLE)):
        (folder / name).mkdir(exist_ok=True)
        config["process"]["args"] = args
        config["root"]["path"] = str(rootfs)
        (folder / name / "config.json").write_text(json.dumps(config))
    return folder / "true", folder / "idle"
