"""What the specification wants said and not refused: on the command line, in its log, in Python."""

from __future__ import annotations

import json
import re
import subprocess
import warnings
from typing import TYPE_CHECKING

import pytest
from conftest import eventually

import rscontainer as rsc

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import BundleFactory, CommandLine


QUIET = {"capture_output": False, "stdout": subprocess.DEVNULL}


def ungrantable(spec: rsc.Spec) -> None:
    """Ask for what no host can grant: ambient and not inheritable (capabilities(7))."""
    sets = spec.process.capabilities
    sets.bounding = sets.permitted = sets.effective = sets.ambient = ["CAP_KILL"]
    sets.inheritable = []


WORDS = (
    "$.process.capabilities.ambient: CAP_KILL cannot be granted: "
    "not in both permitted and inheritable"
)


@pytest.mark.parametrize("command", ["create", "run"])
def test_on_standard_error(
    cli: CommandLine, bundle: BundleFactory, box: str, tmp_path: Path, command: str
) -> None:
    place = bundle(ungrantable, args=["true"])
    errors = tmp_path / "errors"
    with errors.open("w") as file:
        cli(command, "-b", place.path, box, stderr=file, **QUIET)
    assert f"rscontainer: warning: {WORDS}\n" in errors.read_text()
    cli("delete", "--force", box)


def test_of_exec(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    place = bundle(ungrantable, args=["sleep", "1000"])
    cli("run", "-d", "-b", place.path, box, stderr=subprocess.DEVNULL, **QUIET)
    assert f"rscontainer: warning: {WORDS}\n" in cli("exec", box, "true").stderr
    cli("delete", "--force", box)


def test_in_the_log(cli: CommandLine, bundle: BundleFactory, box: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    place = bundle(ungrantable, args=["/no/such"])
    cli("--log", log, "run", "-b", place.path, box, check=False)
    warned, failed = log.read_text().splitlines()
    assert re.fullmatch(rf'time="[^"]+" level=warning msg="{re.escape(WORDS)}"', warned)
    assert " level=error " in failed


@pytest.mark.parametrize("program", ["true", "/no/such"])
def test_in_the_log_that_an_engine_reads(
    cli: CommandLine, bundle: BundleFactory, box: str, tmp_path: Path, program: str
) -> None:
    # Podman takes a log of more lines than one for no error at all.
    log = tmp_path / "log"
    place = bundle(ungrantable, args=[program])
    options = ["--log", log, "--log-format", "json"]
    done = cli(*options, "run", "-b", place.path, box, check=program == "true")
    # The program's own output goes to the same place.
    assert "warning" not in done.stderr
    line = json.loads(log.read_text())
    if program == "true":
        assert (line["level"], line["msg"]) == ("warning", WORDS)
    else:
        assert line["level"] == "error"


def test_of_a_hook_that_fails_at_delete_in_the_log(
    cli: CommandLine, bundle: BundleFactory, box: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    place = bundle(
        lambda spec: spec.update(hooks={"poststop": [{"path": "/bin/false"}]}), args=["true"]
    )
    cli("--log", log, "run", "-b", place.path, box)
    assert "level=warning" in log.read_text()
    assert "/bin/false" in log.read_text()


def test_in_python(bundle: BundleFactory, box: str, root: Path) -> None:
    place = bundle(ungrantable, args=["sleep", "1000"])
    with pytest.warns(rsc.ConfigWarning, match=re.escape(WORDS)) as caught:
        container = rsc.Container.run(box, place.path, root=root)
    assert {warning.filename for warning in caught} == {__file__}
    with container:
        with pytest.warns(rsc.ConfigWarning, match=re.escape(WORDS)) as caught:
            assert container.exec(["true"]).wait() == 0
        assert {warning.filename for warning in caught} == {__file__}
    with pytest.warns(rsc.ConfigWarning, match=re.escape(WORDS)) as caught:
        rsc.run(rsc.Bundle(place.path), ["true"], root=root, check=True)
    assert {warning.filename for warning in caught} == {__file__}


def test_made_an_exception_nothing_is_left(bundle: BundleFactory, box: str, root: Path) -> None:
    place = bundle(ungrantable, args=["sleep", "1000"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(rsc.ConfigWarning):
            rsc.Container.run(box, place.path, root=root, detach=True)
    assert list(root.iterdir()) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        container = rsc.Container.run(box, place.path, root=root)
    with container, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(rsc.ConfigWarning):
            container.exec(["sleep", "2000"])
        warnings.simplefilter("ignore")
        ps = container.exec(["ps"], stdout=rsc.PIPE, text=True)
        assert "2000" not in ps.communicate()[0]


def test_of_a_config_too(bundle: BundleFactory, box: str, root: Path) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.capabilities.bounding = ["CAP_NOVEL"]
        spec.process.capabilities.inheritable = []
        spec.process.capabilities.ambient = []

    place = bundle(change, args=["true"])
    with pytest.warns(rsc.ConfigWarning, match="CAP_NOVEL"):
        container = rsc.Container.create(box, place.path, root=root)
    with container:
        container.start()
        eventually(lambda: container.status == "stopped", "the end")
