"""The manual pages that are installed beside the program say what it says itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import CommandLine

PAGES = Path(sysconfig.get_path("data"), "share/man/man8")
FLAG = re.compile(r"--[a-z][a-z0-9-]+")


def commands(cli: CommandLine) -> list[str]:
    listed = cli("help").stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    return [
        line.split()[0]
        for line in listed.splitlines()
        if line.startswith("  ") and line[2:3] != " "
    ]


def test_every_command_has_its_page(cli: CommandLine) -> None:
    names = commands(cli)
    assert {"create", "run", "exec", "checkpoint", "explain"} <= set(names)
    pages = {f"rscontainer-{name}.8" for name in names} | {"rscontainer.8"}
    assert {page.name for page in PAGES.glob("rscontainer*")} == pages


def test_every_flag_is_on_its_page(cli: CommandLine) -> None:
    for name in ["", *commands(cli)]:
        page = PAGES / "-".join(filter(None, ["rscontainer", name]))
        text = Path(f"{page}.8").read_text().replace("\\-", "-")
        flags = set(FLAG.findall(cli(*filter(None, [name]), "--help").stdout))
        assert flags
        # The kernel's memory limits are hidden, and named in nothing.
        assert flags - set(FLAG.findall(text)) == set(), name
        assert re.search(rf"\n.SH NAME\nrscontainer-?{name} - \w", text), name


@pytest.mark.skipif(shutil.which("man") is None, reason="man(1) is not installed here")
def test_man_finds_and_sets_them(cli: CommandLine) -> None:
    # man(1) looks beside the folders of PATH.
    path = f"{Path(cli.binary).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "LC_ALL": "C", "MANWIDTH": "80"}
    page = subprocess.run(
        ["man", "rscontainer-run"], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert page.startswith("RSCONTAINER-RUN(8)")
    assert "--pid-file <FILE>" in page
