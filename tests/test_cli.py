"""The command line, spelled as runc spells it, and compared with runc where that is installed."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import OWNER, PATIENCE, eventually, process_status

import rscontainer as rsc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import BundleFactory, CommandLine


RUNC = shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
needs_runc = pytest.mark.skipif(RUNC is None, reason="runc is not installed here")
QUIET = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
QUIET_POPEN: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}
ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.fixture
def sleeper(bundle: BundleFactory) -> rsc.Bundle:
    return bundle(args=["sleep", "1000"])


@pytest.fixture
def running(cli: CommandLine, sleeper: rsc.Bundle, box: str) -> Any:
    """The id of a container that runs."""
    cli("run", "--detach", "--bundle", sleeper.path, box, **QUIET)
    yield box
    cli("delete", "--force", box)


def status(cli: CommandLine, id: str) -> str:
    return json.loads(cli("state", id).stdout)["status"]


@contextlib.contextmanager
def foreground(cli: CommandLine, place: rsc.Bundle, id: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `run` that stays with its container, once that runs."""
    with subprocess.Popen(cli.argv("run", "-b", place.path, id), **QUIET_POPEN) as program:
        eventually(lambda: '"running"' in cli("state", id, check=False).stdout, "the container")
        yield program


# -- the lifecycle ----------------------------------------------------------------------------


def test_lifecycle(cli: CommandLine, sleeper: rsc.Bundle, box: str) -> None:
    cli("create", "--bundle", sleeper.path, box, **QUIET)
    assert status(cli, box) == "created"
    cli("start", box)
    assert status(cli, box) == "running"
    cli("pause", box)
    assert status(cli, box) == "paused"
    cli("resume", box)
    assert status(cli, box) == "running"
    cli("kill", box, "SIGKILL")
    eventually(lambda: status(cli, box) == "stopped", "the end")
    cli("delete", box)
    done = cli("state", box, check=False)
    assert done.returncode == 1
    assert f'container "{box}" does not exist' in done.stderr


def test_options_after_the_container(cli: CommandLine, sleeper: rsc.Bundle, box: str) -> None:
    cli("create", box, "--bundle", sleeper.path, **QUIET)
    cli("kill", box, "KILL", "--all")
    eventually(lambda: status(cli, box) == "stopped", "the end")
    cli("delete", box, "--force")


def test_the_bundle_is_here_unless_said(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    place = bundle(args=["echo", "here"])
    assert cli("run", box, cwd=place.path).stdout == "here\n"
    assert cli("run", "-b", ".", box, cwd=place.path).stdout == "here\n"
    assert cli("run", "-b", place.path.name, box, cwd=place.path.parent).stdout == "here\n"


def test_run_deletes_at_exit(cli: CommandLine, bundle: BundleFactory, box: str, root: Path) -> None:
    cli("run", "-b", bundle(args=["true"]).path, box)
    assert list(root.iterdir()) == []


def test_run_keeps_what_it_is_told_to(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    done = cli("run", "--keep", "-b", bundle(args=["sh", "-c", "exit 3"]).path, box, check=False)
    assert done.returncode == 3
    assert status(cli, box) == "stopped"
    cli("delete", box)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", None)],
)
def test_exit_status(
    cli: CommandLine, bundle: BundleFactory, box: str, script: str, code: int | None
) -> None:
    if code is None:
        # The init of a pid namespace cannot kill itself, so another does it from outside.
        place = bundle(args=["sleep", "1000"])
        program = subprocess.Popen(cli.argv("run", "-b", place.path, box), **QUIET_POPEN)
        listed = functools.partial(cli, "list", check=False)
        eventually(lambda: box in listed().stdout and status(cli, box) == "running", "a run")
        cli("kill", box, "9")
        assert program.wait(PATIENCE) == 128 + 9
        return
    place = bundle(args=["sh", "-c", script])
    assert cli("run", "-b", place.path, box, check=False).returncode == code


def test_exec_exit_status(cli: CommandLine, running: str) -> None:
    assert cli("exec", running, "sh", "-c", "exit 7", check=False).returncode == 7
    assert cli("exec", running, "sh", "-c", "kill -9 $$", check=False).returncode == 137


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2", "QUIT", "CONT"])
def test_signals_to_run_are_forwarded(
    cli: CommandLine, bundle: BundleFactory, box: str, name: str
) -> None:
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    place = bundle(args=["sh", "-c", script])
    with subprocess.Popen(
        cli.argv("run", "-b", place.path, box),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout.readline() == "ready\n"
        program.send_signal(getattr(signal, f"SIG{name}"))
        assert program.stdout.read() == f"got {name}\n"
        assert program.wait(PATIENCE) == 9


@pytest.mark.parametrize("name", ["KILL", "SIGKILL", "sigkill", "9", "kill"])
def test_signal_names(cli: CommandLine, sleeper: rsc.Bundle, box: str, name: str) -> None:
    cli("run", "-d", "-b", sleeper.path, box, **QUIET)
    cli("kill", box, name)
    eventually(lambda: status(cli, box) == "stopped", "the end")
    cli("delete", box)


def test_kill_is_term_unless_said(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
    cli("run", "-d", "-b", bundle(args=["sh", "-c", script]).path, box, **QUIET)

    def ended() -> bool:
        # Before the trap is set, the signal is lost on an init.
        return cli("kill", box, check=False).returncode == 1 and status(cli, box) == "stopped"

    eventually(ended, "the end")
    cli("delete", box)


def test_delete_of_nothing(cli: CommandLine, box: str) -> None:
    assert cli("delete", "--force", box).stderr == ""
    done = cli("delete", box, check=False)
    assert done.returncode == 1
    assert f'container "{box}" does not exist' in done.stderr


def test_delete_of_what_runs(cli: CommandLine, running: str) -> None:
    done = cli("delete", running, check=False)
    assert done.returncode == 1
    assert "kill it first, or delete it with force" in done.stderr
    assert status(cli, running) == "running"


def test_a_taken_id(cli: CommandLine, sleeper: rsc.Bundle, running: str) -> None:
    for command in ("create", "run"):
        done = cli(command, "-b", sleeper.path, running, check=False)
        assert done.returncode == 1
        assert "choose another id, or delete that container first" in done.stderr
    assert status(cli, running) == "running"


def test_nothing_is_left_of_what_cannot_run(
    cli: CommandLine, bundle: BundleFactory, box: str, root: Path
) -> None:
    done = cli("run", "-b", bundle(args=["/no/such"]).path, box, check=False)
    assert done.returncode == 1
    assert "/no/such" in done.stderr
    assert "ENOENT: no such file or directory" in done.stderr
    assert list(root.iterdir()) == []


def test_exec_of_what_is_not_there(cli: CommandLine, running: str) -> None:
    done = cli("exec", running, "/no/such", check=False)
    assert done.returncode == 255
    assert "/no/such" in done.stderr


# -- exec -------------------------------------------------------------------------------------


def test_options_after_execs_container_are_the_commands(cli: CommandLine, running: str) -> None:
    assert cli("exec", running, "echo", "-t", "--cwd", "/x").stdout == "-t --cwd /x\n"
    assert cli("exec", running, "echo", "--help").stdout == "--help\n"
    assert cli("exec", running, "--", "echo", "a").stdout == "a\n"


def test_exec_options(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    made = bundle(args=["sleep", "1000"], several_ids=True)
    cli("run", "--detach", "--bundle", made.path, box, **QUIET)
    done = cli(
        *("exec", "--cwd", "/tmp", "--env", "A=1", "-e", "B=2", "--user", "12:34", box),
        *("sh", "-c", "pwd; echo $A $B $PATH; id -u; id -g"),
    )
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert done.stdout == f"/tmp\n1 2 {path}\n12\n34\n"
    done = cli("exec", "-u", "12", "-g", "77", "-g", "88", box, "id", "-G")
    assert set(done.stdout.split()) == {"0", "77", "88"}
    done = cli("exec", "--no-new-privs", box, "grep", "NoNewPrivs", "/proc/self/status")
    assert done.stdout == "NoNewPrivs:\t1\n"
    cli("delete", "--force", box)


def test_a_variable_of_execs_takes_the_place_of_the_configs(
    cli: CommandLine, bundle: BundleFactory, box: str
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.env = ["PATH=/bin", "A=config", "AB=config", "HOME=/config"]

    place = bundle(change, args=["sleep", "1000"])
    cli("run", "-d", "-b", place.path, box, **QUIET)
    done = cli("exec", "-e", "A=1", "--env", "A=asked=for", "-e", "HOME=/h", box, "env")
    assert sorted(done.stdout.split()) == ["A=asked=for", "AB=config", "HOME=/h", "PATH=/bin"]
    cli("delete", "--force", box)


def test_exec_of_a_process_file(cli: CommandLine, running: str, tmp_path: Path) -> None:
    process = rsc.Spec.default().to_dict()["process"]
    process.update(terminal=False, args=["sh", "-c", "echo $A; pwd"], env=["A=1"], cwd="/tmp")
    file = tmp_path / "process.json"
    file.write_text(json.dumps(process))
    assert cli("exec", "--process", file, running).stdout == "1\n/tmp\n"
    file.write_text("{")
    done = cli("exec", "-p", file, running, check=False)
    assert done.returncode == 255
    assert str(file) in done.stderr


def test_process_file_is_read_as_a_config_is(
    cli: CommandLine, running: str, tmp_path: Path
) -> None:
    process = {
        "cwd": "/",
        "args": ["grep", "-E", "CapEff|NoNewPrivs|open files", "/proc/self/status"],
        "oomScoreAdj": None,
        "unknown": [1],
        "capabilities": {"bounding": ["CAP_KILL", "CAP_NOVEL"]},
    }
    file = tmp_path / "process.json"
    file.write_text(json.dumps(process))
    done = cli("exec", "--process", file, running)
    assert done.stdout.split() == ["CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert "CAP_NOVEL" in done.stderr
    # What it does not say is as in the container's own.
    del process["capabilities"]
    file.write_text(json.dumps(process))
    own = cli("exec", running, *process["args"]).stdout
    assert "0" * 16 not in own
    assert cli("exec", "--process", file, running).stdout == own
    for wrong, path in [
        ({**process, "cwd": "x"}, "$.process.cwd"),
        ({**process, "args": [1]}, "$.process.args[0]"),
        ([], "$.process"),
        (None, "$.process"),
    ]:
        file.write_text(json.dumps(wrong))
        done = cli("exec", "--process", file, running, check=False)
        assert f"{path}" in done.stderr
        assert f"(in {file})" in done.stderr
    file.write_text(json.dumps(process) + ', "root": {}')
    done = cli("exec", "--process", file, running, check=False)
    assert "$.process: is not JSON: trailing characters" in done.stderr


def test_detached_exec(cli: CommandLine, running: str, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    cli("exec", "--detach", "--pid-file", file, running, "sleep", "2000", **QUIET)
    pid = int(file.read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x002000\x00"
    os.kill(pid, signal.SIGKILL)


def test_exec_that_cannot_be_told_of_does_not_stay(
    cli: CommandLine, running: str, tmp_path: Path
) -> None:
    missing = tmp_path / "missing" / "pid"
    done = cli("exec", "-d", "--pid-file", missing, running, "sleep", "2000", check=False)
    assert done.returncode == 255
    assert str(missing) in done.stderr
    assert "2000" not in cli("exec", running, "ps").stdout


# -- what is printed --------------------------------------------------------------------------


def test_state(cli: CommandLine, running: str, sleeper: rsc.Bundle) -> None:
    state = json.loads(cli("state", running).stdout)
    assert state["id"] == running
    assert state["status"] == "running"
    assert state["bundle"] == str(sleeper.path)
    assert state["rootfs"] == sleeper.spec.root.path
    assert state["owner"] == OWNER
    assert Path(f"/proc/{state['pid']}").is_dir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", state["created"])


def test_list(cli: CommandLine, running: str, sleeper: rsc.Bundle) -> None:
    header, row = cli("list").stdout.splitlines()
    assert header.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    pid = str(json.loads(cli("state", running).stdout)["pid"])
    assert row.split()[:4] == [running, pid, "running", str(sleeper.path)]
    assert cli("list", "--quiet").stdout == f"{running}\n"
    (found,) = json.loads(cli("list", "--format", "json").stdout)
    assert found["id"] == running


def test_list_of_nothing(cli: CommandLine) -> None:
    done = cli("list", check=False)
    assert done.returncode == 1
    assert f'open "{cli.root}": ENOENT: no such file or directory; ' in done.stderr
    cli.root.mkdir()
    assert cli("list", "-q").stdout == ""
    assert len(cli("list").stdout.splitlines()) == 1
    # An engine takes it for a list of containers, which null is not.
    assert json.loads(cli("list", "-f", "json").stdout) == []


def test_spec(cli: CommandLine, tmp_path: Path) -> None:
    cli("spec", cwd=tmp_path)
    written = (tmp_path / "config.json").read_bytes()
    assert rsc.Spec.load(tmp_path) == rsc.Spec.default()
    done = cli("spec", "--bundle", tmp_path, check=False)
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert (tmp_path / "config.json").read_bytes() == written
    (tmp_path / "other").mkdir()
    cli("spec", "--rootless", "-b", tmp_path / "other")
    assert rsc.Spec.load(tmp_path / "other") == rsc.Spec.default(rootless=True)


def test_explain(cli: CommandLine, sleeper: rsc.Bundle) -> None:
    shown = cli("explain", sleeper.path).stdout
    assert shown.rstrip("\n") == sleeper.spec.explain(sleeper.path).rstrip("\n")
    assert 'mount "proc" on "/proc"' in shown
    assert cli("explain", cwd=sleeper.path).stdout == shown


def test_version(cli: CommandLine) -> None:
    # As engines take runc's apart: a line that begins with the program's name, and one a fact.
    version = rsc.features()["ociVersionMax"]
    expected = f"rscontainer version {rsc.__version__}\nspec: {version}\n"
    assert cli("--version").stdout == expected
    assert cli("-v").stdout == expected


# -- files and descriptors --------------------------------------------------------------------


@pytest.mark.parametrize("command", ["create", "run"])
def test_pid_file(
    cli: CommandLine, sleeper: rsc.Bundle, box: str, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "pid"
    more = ["-d"] if command == "run" else []
    cli(command, *more, "-b", sleeper.path, "--pid-file", file, box, **QUIET)
    # No newline, which engines do not expect.
    assert file.read_text() == str(json.loads(cli("state", box).stdout)["pid"])
    assert sorted(path.name for path in tmp_path.iterdir() if "pid" in path.name) == ["pid"]
    cli("delete", "--force", box)


def test_a_pid_file_that_cannot_be_written(
    cli: CommandLine, sleeper: rsc.Bundle, box: str, tmp_path: Path, root: Path
) -> None:
    missing = tmp_path / "missing" / "pid"
    for command in (["create"], ["run", "-d"], ["run"]):
        done = cli(*command, "-b", sleeper.path, "--pid-file", missing, box, check=False)
        assert done.returncode != 0
        assert str(missing) in done.stderr
        assert list(root.iterdir()) == []


def test_preserve_fds(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    script = "cat <&3; cat <&4; ls /proc/self/fd"
    place = bundle(args=["sh", "-c", script])
    pipes = [os.pipe() for _ in range(3)]
    for number, (_, writer) in enumerate(pipes):
        os.write(writer, f"pipe {number}\n".encode())
        os.close(writer)
    # Through a shell that puts them where they are wanted.
    shell = " ".join(f"{n}<&{reader}" for n, (reader, _) in zip((3, 4, 5), pipes))
    argv = cli.argv("run", "-b", str(place.path), "--preserve-fds", "2", box)
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {shell}', "bash", *argv],
        pass_fds=[reader for reader, _ in pipes],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for reader, _ in pipes:
        os.close(reader)
    lines = done.stdout.split("\n")
    assert lines[:2] == ["pipe 0", "pipe 1"]
    # 5 is not preserved, and is the folder that ls reads.
    assert lines[2:-1] == ["0", "1", "2", "3", "4", "5"]


def test_descriptors_that_are_not_open_are_not_preserved(
    cli: CommandLine, sleeper: rsc.Bundle, running: str, box: str
) -> None:
    for words in (
        ("run", "--preserve-fds", "2", "-b", sleeper.path, f"{box}-2"),
        ("exec", "--preserve-fds", "2", running, "true"),
    ):
        done = cli(*words, check=False)
        assert done.returncode == (255 if words[0] == "exec" else 1)
        assert "descriptor 3 is not open; open it, or preserve fewer" in done.stderr


def test_the_end_of_a_run_is_not_that_of_another_container_of_its_name(
    cli: CommandLine, sleeper: rsc.Bundle, box: str
) -> None:
    with foreground(cli, sleeper, box) as first:
        first.send_signal(signal.SIGSTOP)
        cli("delete", "--force", box)
        cli("run", "--detach", "-b", sleeper.path, box, **QUIET)
        first.send_signal(signal.SIGCONT)
        assert first.wait(PATIENCE) == 128 + signal.SIGKILL
    assert status(cli, box) == "running"
    cli("delete", "--force", box)


def test_the_end_of_a_run_goes_on_where_a_deletion_stopped(
    cli: CommandLine, bundle: BundleFactory, box: str, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ran"

    def change(spec: rsc.Spec) -> None:
        argv = ["sh", "-c", f"echo >> {out}"]
        spec.hooks = {"poststop": [{"path": "/bin/sh", "args": argv}]}

    place = bundle(change, args=["sleep", "1000"])
    with foreground(cli, place, box) as program:
        program.send_signal(signal.SIGSTOP)
        # Its last step fails, when the hooks have run and the record is gone.
        foreign = root / box / "foreign"
        foreign.touch()
        assert "not empty" in cli("delete", "--force", box, check=False).stderr
        foreign.unlink()
        program.send_signal(signal.SIGCONT)
        assert program.wait(PATIENCE) == 128 + signal.SIGKILL
    assert not (root / box).exists()
    assert out.read_text() == "\n"


def test_signals_are_for_the_thread_that_waits_for_them(
    cli: CommandLine, sleeper: rsc.Bundle, box: str
) -> None:
    with foreground(cli, sleeper, box) as program:
        tasks = Path(f"/proc/{program.pid}/task")
        eventually(lambda: len(list(tasks.iterdir())) > 1, "the thread that keeps the mounts")

        def resizes_are_blocked(task: int) -> bool:
            return bool(int(process_status(task, "SigBlk"), 16) & 1 << (signal.SIGWINCH - 1))

        others = {int(task.name) for task in tasks.iterdir()} - {program.pid}
        eventually(lambda: all(map(resizes_are_blocked, others)), "the others' not hearing them")
        assert not resizes_are_blocked(program.pid)
        cli("delete", "--force", box)
        program.wait(PATIENCE)


def test_no_descriptor_leaks(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    place = bundle(args=["sh", "-c", "ls /proc/self/fd"])
    reader, writer = os.pipe()
    done = cli("run", "-b", place.path, box, pass_fds=[reader, writer])
    os.close(reader)
    os.close(writer)
    assert done.stdout.split() == ["0", "1", "2", "3"]


@pytest.mark.requires_root("to look into a process that hides")
@pytest.mark.parametrize("started", ["as it is", "from a file that is gone", "from a mounted file"])
def test_what_a_created_container_runs_from(
    cli: CommandLine, sleeper: rsc.Bundle, box: str, tmp_path: Path, started: str
) -> None:
    # With this capability nothing is hidden from root.
    without = ["setpriv", "--bounding-set=-sys_ptrace"]
    binary, *words = cli.argv("create", "-b", sleeper.path, box)
    copy = shutil.copy(binary, tmp_path / "copy")
    file = os.open(copy, os.O_RDONLY)
    program = [binary]
    # An overlay shows neither the one nor the other.
    if started == "from a file that is gone":
        os.unlink(copy)
        program = [f"/proc/self/fd/{file}"]
    elif started == "from a mounted file":
        place = tmp_path / "place"
        place.touch()
        script = f'mount --bind {binary} {place} && exec {place} "$@"'
        program = ["unshare", "--mount", "sh", "-c", script, "sh"]
    subprocess.run([*without, *program, *words], check=True, pass_fds=[file], **QUIET_POPEN)
    os.close(file)
    pid = json.loads(cli("state", box).stdout)["pid"]
    assert Path(f"/proc/{pid}/comm").read_text() == "rsc:[init]\n"
    executable = f"/proc/{pid}/exe"
    copied = started != "as it is"
    why = "Operation not permitted|Text file busy" if copied else "Read-only file system"
    with pytest.raises(OSError, match=why):
        os.open(executable, os.O_WRONLY)
    if copied:
        assert os.readlink(executable) == "/memfd:rscontainer (deleted)"
        with open(executable, "rb") as opened:
            assert fcntl.fcntl(opened, fcntl.F_GET_SEALS) & ALL_SEALS == ALL_SEALS
        # Not a copy of the whole command line, which would take longer than all else.
        assert os.stat(executable).st_size * 3 < os.stat(binary).st_size
    else:
        # Through an overlay: of the same size, and on a file system of its own.
        assert os.readlink(executable) == "/rscontainer"
        assert os.stat(executable).st_size == os.stat(binary).st_size
        assert os.stat(executable).st_dev != os.stat(binary).st_dev
    # Not dumpable, so that not even root sees its files without that capability.
    look = subprocess.run([*without, "readlink", executable], check=False, capture_output=True)
    assert (look.returncode, look.stdout) == (1, b"")
    links = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
    assert links.count("/dev/null") == 3
    assert sorted(link.partition(":")[0] for link in links if link != "/dev/null") == ["socket"] * 2
    cli("delete", "--force", box)


def test_python_runs_the_same(cli: CommandLine, bundle: BundleFactory, box: str) -> None:
    place = bundle(args=["sh", "-c", "cat; exit 7"])
    words = cli.argv("run", "-b", place.path, box)[1:]
    argv = [sys.executable, "-m", "rscontainer", *words]
    done = subprocess.run(argv, input="through", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "through", "")


# -- errors -----------------------------------------------------------------------------------


def test_log_as_json(cli: CommandLine, box: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        done = cli("--log", log, "--log-format", "json", "state", box, check=False)
        assert done.returncode == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert line["level"] == "error"
        assert f"rscontainer: error: {line['msg']}\n" == done.stderr
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["time"])


@pytest.mark.parametrize("words", [["state", "--nosuch"], ["nosuch"], ["kill"]], ids=" ".join)
def test_a_usage_error_is_in_the_log_too(
    cli: CommandLine, tmp_path: Path, words: list[str]
) -> None:
    log = tmp_path / "log"
    done = cli("--log", log, "--log-format=json", *words, check=False)
    line = json.loads(log.read_text())
    assert line["level"] == "error"
    assert done.returncode in (1, 3)
    assert done.stderr.startswith("error: " + line["msg"].split("  ")[0][:30])
    # A format without a file is for who reads standard error.
    done = cli("--log-format=json", *words, check=False)
    assert json.loads(done.stderr)["msg"] == line["msg"]


def test_a_log_that_cannot_be_opened(cli: CommandLine, tmp_path: Path) -> None:
    done = cli("--log", tmp_path, "list", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "name another file with --log" in done.stderr


def test_a_log_format_without_a_log(cli: CommandLine, box: str) -> None:
    done = cli("--log-format", "text", "state", box, check=False)
    assert re.fullmatch(
        r'time="[^"]+" level=error msg="container .* does not exist .*"\n', done.stderr
    )
    done = cli("--log-format", "json", "state", box, check=False)
    assert json.loads(done.stderr)["level"] == "error"


def test_log_as_text(cli: CommandLine, box: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    cli("--log", log, "state", box, check=False)
    assert re.fullmatch(
        r'time="[^"]+" level=error msg="container .* does not exist .*"\n', log.read_text()
    )


@pytest.mark.parametrize("logged", [False, True])
def test_debug_says_what_is_done(
    cli: CommandLine, bundle: BundleFactory, box: str, tmp_path: Path, logged: bool
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.process.execCPUAffinity = {"initial": "0", "final": "0"}

    place = bundle(change, args=["sleep", "1000"])
    log = tmp_path / "log"
    options = ["--debug", *(["--log", log] if logged else [])]
    run = tmp_path / "run"
    with run.open("w") as file:
        cli(*options, "run", "-d", "-b", place.path, box, **{**QUIET, "stderr": file})
    said = log.read_text() if logged else run.read_text()
    assert "parent: clone with new " in said
    assert ('mask "/proc/keys"' if not logged else r"mask \"/proc/keys\"") in said
    done = cli(*options, "exec", box, "true")
    said = log.read_text() if logged else done.stderr
    assert "parent: run on processors 0 (affinity: 0x1)" in said
    if logged:
        assert run.read_text() == done.stderr == ""
        pattern = r'(time="[^"]+" level=debug msg=".*"\n)+'
        assert re.fullmatch(pattern, said)
    cli("delete", "--force", box)


def test_root_comes_before_the_command(cli: CommandLine, root: Path, running: str) -> None:
    assert (root / running / "state.json").exists()
    done = subprocess.run(
        [cli.binary, f"--root={root}", "list", "-q"], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{running}\n"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["crate", "x"], "create"),
        (["stat", "x"], "state"),
        (["run", "--bundel", ".", "x"], "--bundle"),
        (["create", "--pidfile", "f", "x"], "--pid-file"),
        (["delete", "--forse", "x"], "--force"),
        (["list", "--format", "jsn"], "json"),
    ],
)
def test_mistyped_words_are_answered_with_the_nearest(
    cli: CommandLine, words: list[str], meant: str
) -> None:
    done = cli(*words, check=False)
    assert done.returncode != 0
    assert re.search(rf"similar.*'{meant}'", done.stderr), done.stderr


def test_a_container_of_a_similar_name_is_named(cli: CommandLine, running: str) -> None:
    done = cli("state", running[:-1] + "x", check=False)
    assert done.returncode == 1
    assert f'; did you mean "{running}"?\n' in done.stderr
    assert "`rscontainer list`" in cli("state", "nothing-like-it", check=False).stderr
    done = cli("list", "--root", "/x", check=False)
    assert "tip: --root goes before the command" in done.stderr
    done = cli("list", "--nosuch", check=False)
    assert "--nosuch" in done.stderr
    assert "tip" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["state", "missing"],
        ["start", "missing"],
        ["kill", "missing"],
        ["delete", "missing"],
        ["pause", "missing"],
        ["resume", "missing"],
        ["exec", "missing", "true"],
        ["exec", "missing"],
        ["create", "-b", "/no/such", "x"],
        ["run", "-b", "/", "x"],
        ["create", "a/b"],
        ["create", "x" * 10000],
        ["kill", "missing", "NOSUCH"],
        ["explain", "/no/such"],
        ["spec", "-b", "/no/such"],
        ["list", "--format"],
        ["run"],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_errors_say_what_to_do(cli: CommandLine, words: list[str], tmp_path: Path) -> None:
    done = cli(*words, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert len(done.stderr) < 2000
    # Either what would help, after a semicolon, or the usage.
    assert re.search(r"^rscontainer: error: .+; .+\n$", done.stderr) or "--help" in done.stderr, (
        done.stderr
    )


# -- runc -------------------------------------------------------------------------------------


@pytest.fixture
def both(cli: CommandLine, tmp_path: Path) -> dict[str, Callable[..., Any]]:
    """Our command line and runc's, each on a folder of states of its own."""

    def runc(*args: object, **more: Any) -> subprocess.CompletedProcess[str]:
        more = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, **more}
        argv = [str(RUNC), "--root", str(tmp_path / "runc"), *map(str, args)]
        return subprocess.run(argv, check=False, timeout=60, **more)

    def ours(*args: object, **more: Any) -> subprocess.CompletedProcess[str]:
        return cli(*args, check=False, **more)

    return {"ours": ours, "runc": runc}


@needs_runc
@pytest.mark.parametrize(
    "script", ["exit 0", "exit 3", "exit 300", "exit 128"], ids=lambda script: script
)
def test_exit_status_is_runcs(
    both: dict[str, Callable[..., Any]],
    bundle: BundleFactory,
    unique_id: Callable[[], str],
    script: str,
) -> None:
    place = bundle(older, args=["sh", "-c", script])
    codes = {
        name: run("run", "--bundle", place.path, unique_id()).returncode
        for name, run in both.items()
    }
    assert codes["ours"] == codes["runc"]


def older(spec: rsc.Spec) -> None:
    """A config that runc 1.1 takes as well."""
    spec.ociVersion = "1.0.2"


@needs_runc
def test_verbs_answer_as_runcs(
    both: dict[str, Callable[..., Any]], bundle: BundleFactory, unique_id: Callable[[], str]
) -> None:
    """The exit status of each verb in each state, and what state and list have in them."""
    place = bundle(older, args=["sleep", "1000"])
    seen: dict[str, list[object]] = {}
    for name, run in both.items():
        id = unique_id()  # noqa: A001
        codes: list[object] = []

        def tell(*words: object, run: Any = run, codes: list[object] = codes) -> Any:
            quiet = {"capture_output": False, "stdout": subprocess.PIPE}
            if words[0] in ("create", "run"):
                quiet = QUIET
            done = run(*words, **{**quiet, "stderr": subprocess.DEVNULL})
            codes.append((words[0], done.returncode))
            return done

        def reaches(wanted: str, id: str = id, run: Any = run) -> None:
            def now() -> bool:
                return json.loads(run("state", id).stdout)["status"] == wanted

            eventually(now, wanted)

        tell("state", id)
        tell("delete", id)
        tell("delete", "--force", id)
        tell("start", id)
        tell("create", "--bundle", place.path, id)
        tell("create", "--bundle", place.path, id)
        reaches("created")
        state = json.loads(tell("state", id).stdout)
        codes.append(sorted(set(state) - {"annotations"}))
        codes.append([type(state[key]).__name__ for key in sorted(set(state) - {"annotations"})])
        tell("resume", id)
        tell("start", id)
        reaches("running")
        tell("start", id)
        tell("delete", id)
        codes.append(tell("list").stdout.split("\n")[0].split())
        codes.append(tell("list", "-q").stdout.replace(id, "ID"))
        (row,) = json.loads(tell("list", "--format", "json").stdout)
        codes.append(sorted(set(row) - {"annotations"}))
        tell("pause", id)
        reaches("paused")
        tell("pause", id)
        tell("exec", id, "true")
        tell("resume", id)
        reaches("running")
        codes.append(tell("exec", id, "echo", "-t").stdout)
        tell("exec", id, "/no/such")
        tell("kill", id, "NOSUCH")
        tell("kill", id, "KILL")
        reaches("stopped")
        codes.append(json.loads(tell("state", id).stdout)["pid"])
        tell("kill", id, "KILL")
        tell("exec", id, "true")
        tell("pause", id)
        tell("delete", id)
        tell("state", id)
        seen[name] = codes
    assert seen["ours"] == seen["runc"]


@needs_runc
def test_what_cannot_run_answers_as_runcs(
    both: dict[str, Callable[..., Any]], bundle: BundleFactory, unique_id: Callable[[], str]
) -> None:
    place = bundle(older, args=["/no/such"])
    codes = {
        name: [
            run("run", "-b", place.path, unique_id()).returncode,
            run("create", "-b", place.path.parent / "missing", unique_id()).returncode,
            run("run", "-b", place.path.parent / "missing", unique_id()).returncode,
            run("no-such-command").returncode,
        ]
        for name, run in both.items()
    }
    assert codes["ours"] == codes["runc"] == [1, 1, 1, 3]


@needs_runc
def test_every_flag_of_runcs_is_known(cli: CommandLine) -> None:
    """Of the commands that are there, what runc's help names and the scripts around it use."""
    for command in ("create", "run", "exec", "start", "state", "kill", "delete", "list", "spec"):
        text = subprocess.run(
            [str(RUNC), command, "--help"], check=True, capture_output=True, text=True
        ).stdout
        flags = set(re.findall(r"^\s+(--[a-z-]+)", text, re.MULTILINE)) - {"--help"}
        known = set(re.findall(r"--[a-z-]+", cli(command, "--help").stdout))
        assert flags - known == set(), command
