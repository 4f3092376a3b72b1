"""``rsc.run``: everything that ``subprocess.run`` does, in a container."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import BundleFactory


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_completed(bundle: BundleFactory, root: Path) -> None:
    done = rsc.run(bundle(), sh("echo out; echo err >&2; exit 3"), root=root, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert done.args == sh("echo out; echo err >&2; exit 3")
    assert done.id.startswith("run-")
    assert repr(done) == (
        f"CompletedProcess(id={done.id!r}, args={done.args!r}, returncode=3, "
        "stdout=b'out\\n', stderr=b'err\\n')"
    )
    with pytest.raises(rsc.CalledProcessError):
        done.check_returncode()


def test_the_config_s_own_arguments(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(args=["echo", "of the config"])
    done = rsc.run(made, id=box, root=root, stdout=rsc.PIPE)
    assert (done.id, done.args, done.returncode) == (box, None, 0)
    assert (done.stdout, done.stderr) == (b"of the config\n", None)
    done.check_returncode()


def test_spec_in_place_of_the_config(bundle: BundleFactory, root: Path) -> None:
    made = bundle(args=["echo", "of the config"])
    spec = made.spec
    spec.hostname = "elsewhere"
    spec.process.args = ["hostname"]
    done = rsc.run(made, spec=spec, root=root, capture_output=True, text=True)
    assert done.stdout == "elsewhere\n"
    done = rsc.run(made, ["echo", "args win"], spec=spec, root=root, capture_output=True)
    assert done.stdout == b"args win\n"


def test_captured_run_needs_no_terminal(bundle: BundleFactory, root: Path) -> None:
    made = bundle(terminal=True)
    script = "test -t 0 || echo no; test -t 1 || echo no"
    assert rsc.run(made, sh(script), root=root, capture_output=True).stdout == b"no\nno\n"


@pytest.mark.requires_root("to mount proc without a pid namespace")
@pytest.mark.parametrize(
    ("signal", "code"), [("KILL", -9), ("TERM", -15), ("SEGV", -11), ("USR1", -10)]
)
def test_negative_for_a_signal(bundle: BundleFactory, root: Path, signal: str, code: int) -> None:
    # Signals that an init sends itself are ignored, so it is not the init of its namespace here.
    def share_pids(spec: rsc.Spec) -> None:
        spec.linux.namespaces = [n for n in spec.linux.namespaces if n.type != "pid"]

    assert rsc.run(bundle(share_pids), sh(f"kill -{signal} $$"), root=root).returncode == code


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_exit_codes(bundle: BundleFactory, root: Path, code: int) -> None:
    assert rsc.run(bundle(), sh(f"exit {code}"), root=root).returncode == code


def test_check(bundle: BundleFactory, root: Path) -> None:
    assert rsc.run(bundle(), ["true"], root=root, check=True).returncode == 0
    with pytest.raises(rsc.CalledProcessError) as caught:
        rsc.run(
            bundle(),
            sh("echo o; echo e >&2; exit 3"),
            root=root,
            check=True,
            text=True,
            capture_output=True,
        )
    error = caught.value
    assert isinstance(error, subprocess.CalledProcessError)
    assert isinstance(error, rsc.ContainerError)
    assert (error.returncode, error.stdout, error.stderr) == (3, "o\n", "e\n")
    assert error.output == "o\n"
    assert error.cmd == sh("echo o; echo e >&2; exit 3")
    assert str(error) == (
        "Command '['sh', '-c', 'echo o; echo e >&2; exit 3']' returned non-zero exit status 3."
    )


def test_input(bundle: BundleFactory, root: Path) -> None:
    made = bundle()
    assert rsc.run(made, ["cat"], root=root, input=b"a\0b", stdout=rsc.PIPE).stdout == b"a\0b"
    done = rsc.run(made, ["cat"], root=root, input="ä\n", capture_output=True, text=True)
    assert done.stdout == "ä\n"
    assert rsc.run(made, ["cat"], root=root, input=b"", stdout=rsc.PIPE).stdout == b""


def test_input_that_nobody_reads(bundle: BundleFactory, root: Path) -> None:
    done = rsc.run(bundle(), ["true"], root=root, input=b"x" * 2**20)
    assert done.returncode == 0


def test_large_data_both_ways(bundle: BundleFactory, root: Path) -> None:
    data = os.urandom(2**20) * 16
    done = rsc.run(bundle(), ["cat"], root=root, input=data, capture_output=True, timeout=100)
    assert done.stdout == data
    assert done.stderr == b""


def test_text(bundle: BundleFactory, root: Path) -> None:
    made, script = bundle(), sh(r"printf 'a\r\nb\rc\n'")
    assert rsc.run(made, script, root=root, stdout=rsc.PIPE, text=True).stdout == "a\nb\nc\n"
    assert rsc.run(made, script, root=root, stdout=rsc.PIPE).stdout == b"a\r\nb\rc\n"
    latin = sh(r"printf '\344'")
    done = rsc.run(made, latin, root=root, stdout=rsc.PIPE, encoding="latin-1")
    assert done.stdout == "ä"
    done = rsc.run(made, latin, root=root, stdout=rsc.PIPE, encoding="utf-8", errors="replace")
    assert done.stdout == "\N{REPLACEMENT CHARACTER}"
    with pytest.raises(UnicodeDecodeError):
        rsc.run(made, latin, root=root, stdout=rsc.PIPE, encoding="utf-8")


def test_streams(bundle: BundleFactory, root: Path, tmp_path: Path) -> None:
    made = bundle()
    done = rsc.run(made, sh("echo o; echo e >&2"), root=root, stdout=rsc.PIPE, stderr=rsc.STDOUT)
    assert (done.stdout, done.stderr) == (b"o\ne\n", None)
    with (tmp_path / "in").open("wb+") as source, (tmp_path / "out").open("wb") as sink:
        source.write(b"from a file")
        source.seek(0)
        done = rsc.run(made, ["cat"], root=root, stdin=source, stdout=sink, check=True)
    assert done.stdout is None
    assert (tmp_path / "out").read_bytes() == b"from a file"
    done = rsc.run(made, ["cat"], root=root, stdin=rsc.DEVNULL, stdout=rsc.PIPE)
    assert done.stdout == b""


def test_inherited_streams(bundle: BundleFactory, root: Path, capfd: Any) -> None:
    rsc.run(bundle(), sh("echo out; echo err >&2"), root=root, check=True)
    assert tuple(capfd.readouterr()) == ("out\n", "err\n")


# -- timeout --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
def test_timeout_kills_deletes_and_has_the_output(
    bundle: BundleFactory, root: Path, text: bool
) -> None:
    args = sh("echo out; echo err >&2; sleep 1000 & sleep 1000")
    began = time.monotonic()
    with pytest.raises(rsc.TimeoutExpired) as caught:
        rsc.run(bundle(), args, root=root, capture_output=True, text=text, timeout=1.5)
    assert 1.5 <= time.monotonic() - began < 60
    error = caught.value
    assert isinstance(error, subprocess.TimeoutExpired)
    assert isinstance(error, rsc.ContainerError)
    assert (error.cmd, error.timeout) == (args, 1.5)
    expected = ("out\n", "err\n") if text else (b"out\n", b"err\n")
    assert (error.stdout, error.stderr) == expected
    assert Container.list(root) == []


def test_timeout_without_streams(bundle: BundleFactory, root: Path) -> None:
    with pytest.raises(rsc.TimeoutExpired, match=r"'sleep', '1000'.*timed out after 0\.1 seconds"):
        rsc.run(bundle(), ["sleep", "1000"], root=root, timeout=0.1)


def test_in_time(bundle: BundleFactory, root: Path) -> None:
    for timeout in (60, 60.5, float("inf")):
        assert rsc.run(bundle(), ["true"], root=root, timeout=timeout).returncode == 0


# -- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"input": b"x", "stdin": rsc.PIPE}, ValueError, "stdin and input may not both be used"),
        (
            {"capture_output": True, "stdout": rsc.PIPE},
            ValueError,
            "stdout and stderr may not be used with capture_output",
        ),
        ({"input": "x"}, TypeError, "input must be bytes"),
        ({"input": b"x", "text": True}, TypeError, "input must be str"),
        ({"stdout": -7}, ValueError, "stdout=-7 is neither"),
        ({"stdout": rsc.STDOUT}, ValueError, "stdout=-2 is neither"),
        ({"stdin": "path"}, TypeError, "stdin must be None, PIPE, DEVNULL, a descriptor or a file"),
        ({"stdin": io.BytesIO(b"x")}, io.UnsupportedOperation, "fileno"),
        ({"args": "echo hi"}, TypeError, r"args must be a list of strings, such as \['echo', 'hi'"),
        ({"args": []}, rsc.SpecError, r"\$.process.args"),
        ({"args": ["a\0b"]}, rsc.SpecError, r"\$.process.args\[0\]"),
        ({"args": [1]}, TypeError, "'int'"),
        ({"timeout": "soon"}, TypeError, "'str'|unsupported operand"),
    ],
)
def test_mistakes(
    bundle: BundleFactory, root: Path, more: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        rsc.run(bundle(args=["sleep", "1000"]), **{"root": root, **more})
    assert Container.list(root) == []


def test_closed_descriptor(bundle: BundleFactory, root: Path) -> None:
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    with pytest.raises(rsc.SystemCallError, match=f"descriptor {number} for stdin") as caught:
        rsc.run(bundle(), ["true"], root=root, stdin=number)
    assert caught.value.call == "dup"


def test_closed_standard_streams(bundle: BundleFactory, root: Path, tmp_path: Path) -> None:
    script = """
import os, sys, rscontainer as rsc
for number in 0, 1, 2:
    os.close(number)
done = rsc.run(sys.argv[1], ["sh", "-c", "echo hi"], root=sys.argv[2], stdin=rsc.DEVNULL,
               capture_output=True)
with open(sys.argv[3], "w") as out:
    out.write(repr((done.returncode, done.stdout)))
"""
    out = tmp_path / "out"
    subprocess.run(
        [sys.executable, "-c", script, str(bundle().path), str(root), str(out)],
        check=True,
        timeout=60,
    )
    assert out.read_text() == "(0, b'hi\\n')"
