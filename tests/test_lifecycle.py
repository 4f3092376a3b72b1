"""Containers from create to delete (runtime.md#lifecycle), from Python."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import ORDINARY, OWNER, eventually

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from conftest import BundleFactory, CommandLine


FOREVER = ["sleep", "1000"]


# -- the verbs ------------------------------------------------------------------------------


def test_busybox_walkthrough(bundle: BundleFactory, root: Path) -> None:
    done = rsc.run(
        bundle(seed=True), ["ps", "aux"], root=root, capture_output=True, text=True, check=True
    )
    header, *rows = done.stdout.splitlines()
    # Some builds of busybox have a column of times as well.
    assert header.split()[0] == "PID"
    assert [row.split()[0] for row in rows] == ["1"]
    assert rows[0].endswith("ps aux")
    assert done.stderr == ""


def test_verbs_in_turn(bundle: BundleFactory, root: Path, box: str) -> None:
    container = Container.create(box, bundle(args=FOREVER), root=root)
    assert container.status == "created"
    container.start()
    assert container.status == "running"
    container.pause()
    assert container.status == "paused"
    container.resume()
    assert container.status == "running"
    container.kill("KILL")
    assert container.wait(30) == -9
    assert container.status == "stopped"
    container.delete()
    with pytest.raises(rsc.NotFoundError):
        container.status  # noqa: B018  # looked at for what it raises


def test_state_is_the_specification_s(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(lambda spec: setattr(spec, "annotations", {"org.example": "x"}), args=FOREVER)
    with Container.run(box, made, root=root) as container:
        state = container.state()
        created = state.pop("created")
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", created)
        assert state == {
            "ociVersion": "1.3.0",
            "id": box,
            "pid": container.pid,
            "status": "running",
            "bundle": str(made.path),
            "rootfs": str(made.rootfs),
            "owner": OWNER,
            "annotations": {"org.example": "x"},
        }
        assert container.pid == container.init.pid
        assert os.readlink(f"/proc/{container.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
        container.init.kill()
        container.wait(30)
        assert container.state()["pid"] == 0
        assert container.pid == 0


def test_nothing_runs_before_start(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.create(box, bundle(args=["echo", "hi"]), root=root, stdout=rsc.PIPE) as c:
        program = Path(f"/proc/{c.pid}/cmdline").read_bytes()
        assert program != b"echo\0hi\0"
        c.start()
        assert c.init.stdout.read() == b"hi\n"
        assert c.wait(30) == 0


def test_create_reads_the_config_once(bundle: BundleFactory, root: Path, box: str) -> None:
    made = bundle(args=["echo", "as created"])
    with Container.create(box, made, root=root, stdout=rsc.PIPE) as container:
        # Changes after create have no effect (runtime.md#create).
        made.spec.process.args = ["echo", "changed"]
        made.spec.save(made.config)
        container.start()
        assert container.init.stdout.read() == b"as created\n"


def test_created_is_deleted_without_force(bundle: BundleFactory, root: Path, box: str) -> None:
    container = Container.create(box, bundle(args=FOREVER), root=root)
    pid = container.pid
    container.delete()
    assert not Path(f"/proc/{pid}").exists() or container.init.wait(30) == -9


def test_created_can_be_killed(bundle: BundleFactory, root: Path, box: str) -> None:
    container = Container.create(box, bundle(args=FOREVER), root=root)
    container.kill(9)
    assert container.wait(30) == -9
    assert container.status == "stopped"
    container.delete()


@pytest.mark.parametrize("paused", [False, True])
def test_force_deletes_what_runs(bundle: BundleFactory, root: Path, box: str, paused: bool) -> None:
    container = Container.run(box, bundle(args=FOREVER), root=root)
    if paused:
        container.pause()
    with pytest.raises(rsc.StateError, match="delete it with force"):
        container.delete()
    container.delete(force=True)
    assert container.wait(30) == -9
    container.delete(force=True)
    with pytest.raises(rsc.NotFoundError):
        container.delete()


def with_another(
    bundle: BundleFactory, root: Path, box: str, program: str
) -> tuple[Container, Path]:
    """A container without a pid namespace, and in /proc another process of it than its init."""

    def change(spec: rsc.Spec) -> None:
        spec.linux.namespaces = [n for n in spec.linux.namespaces if n.type != "pid"]

    made = bundle(change, args=["sh", "-c", f"sleep 1000 & echo $!; exec {program}"])
    container = Container.run(box, made, root=root, stdout=rsc.PIPE)
    with container.init.stdout as stdout:
        return container, Path("/proc", stdout.readline().decode().strip())


@pytest.mark.requires_root("to mount proc without a pid namespace")
def test_delete_ends_what_the_init_left(bundle: BundleFactory, root: Path, box: str) -> None:
    container, left = with_another(bundle, root, box, "true")
    assert container.wait(30) == 0
    assert left.exists()
    container.delete()
    eventually(lambda: not left.exists(), "the end of what the init left")


@pytest.mark.requires_root("to mount proc without a pid namespace")
@pytest.mark.parametrize("ended", [False, True], ids=["its init runs", "its init has ended"])
def test_kill_ends_all_that_have_no_pid_namespace(
    bundle: BundleFactory, root: Path, box: str, ended: bool
) -> None:
    """The end of their init alone would not be theirs (pid_namespaces(7))."""
    container, left = with_another(bundle, root, box, "sleep 1000")
    if ended:
        container.init.kill()
        assert container.wait(30) == -9
    assert left.exists()
    container.kill("KILL")
    eventually(lambda: not left.exists(), "the end of the other")
    assert container.wait(30) == -9
    with pytest.raises(rsc.StateError, match="container not running"):
        container.kill("KILL")
    container.delete()


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_created_ends_when_it_is_asked_to(
    bundle: BundleFactory, root: Path, box: str, signal: str
) -> None:
    """The kernel would spare it, the first of its pid namespace, and whoever asks would wait."""
    container = Container.create(box, bundle(args=FOREVER), root=root)
    container.kill(signal)
    assert container.wait(30) == 128 + {"TERM": 15, "INT": 2, "HUP": 1}[signal]
    assert container.status == "stopped"
    container.delete()


def test_what_would_have_ended_it_is_the_programs_to_handle(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    with Container.create(box, bundle(args=FOREVER), root=root) as container:
        container.start()
        container.kill("TERM")
        with pytest.raises(rsc.TimeoutExpired):
            container.wait(0.2)
        assert container.status == "running"


@pytest.mark.parametrize(
    ("signal", "code"), [("KILL", -9), ("SIGKILL", -9), (9, -9), ("term", 7), (15, 7), ("USR1", 8)]
)
def test_kill_takes_names_and_numbers(
    bundle: BundleFactory, root: Path, box: str, signal: str | int, code: int
) -> None:
    script = "trap 'exit 7' TERM; trap 'exit 8' USR1; echo ready; while :; do sleep 0.05; done"
    with Container.run(box, bundle(args=["sh", "-c", script]), root=root, stdout=rsc.PIPE) as c:
        assert c.init.stdout.readline() == b"ready\n"
        c.kill(signal)
        assert c.wait(30) == code


def test_kill_all_reaches_every_process(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        others = [container.exec(FOREVER) for _ in range(3)]
        container.kill("TERM", all=True)
        # TERM does not reach the default action in an init, so this one lives on.
        assert [other.wait(30) for other in others] == [-15] * 3
        assert container.status == "running"
        container.kill("KILL", all=True)
        assert container.wait(30) == -9


# -- finding --------------------------------------------------------------------------------


def test_load_finds_what_another_made(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine
) -> None:
    # What is detached keeps the streams that it is given: a pipe would never end.
    quiet = {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    cli("run", "--detach", "--bundle", bundle(args=FOREVER).path, box, **quiet)
    container = Container.load(box, root)
    assert (container.id, container.status) == (box, "running")
    with container.exec(["echo", "hi"], stdout=rsc.PIPE) as process:
        assert process.stdout.read() == b"hi\n"
    init = container.init
    assert init.pid == container.pid
    assert init.poll() is None
    container.kill("KILL")
    eventually(lambda: container.status == "stopped", "the end of the container")
    container.delete()


def test_list_is_sorted_and_of_one_root(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str], tmp_path: Path
) -> None:
    assert Container.list(root) == []
    made, ids = bundle(args=FOREVER), sorted((unique_id() for _ in range(3)), reverse=True)
    containers = [Container.run(each, made, root=root) for each in ids]
    assert [container.id for container in Container.list(root)] == sorted(ids)
    assert Container.list(tmp_path / "elsewhere") == []
    assert not (tmp_path / "elsewhere").exists()
    for container in containers:
        container.delete(force=True)
    assert Container.list(root) == []


def test_relative_root_and_bundle(
    bundle: BundleFactory, root: Path, box: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bundle(args=["pwd"])
    monkeypatch.chdir(made.path.parent)
    with Container.create(box, made.path.name, root=root.name, stdout=rsc.PIPE) as container:
        monkeypatch.chdir("/")
        assert Container.load(box, root).status == "created"
        container.start()
        assert container.init.stdout.read() == b"/\n"


def test_context_manager_deletes_after_an_exception(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    with (
        pytest.raises(RuntimeError, match="mine"),
        Container.run(box, bundle(args=FOREVER), root=root, stdin=rsc.PIPE) as container,
    ):
        raise RuntimeError("mine")
    assert container.init.returncode is None or container.init.returncode == -9
    assert container.wait(30) == -9
    assert container.init.stdin.closed


def test_context_manager_after_delete(bundle: BundleFactory, root: Path, box: str) -> None:
    with Container.run(box, bundle(args=["true"]), root=root) as container:
        assert container.wait(30) == 0
        container.delete()


# -- detach ---------------------------------------------------------------------------------

WORKER = """
import sys, rscontainer as rsc
id, bundle, root, detach = sys.argv[1:]
c = rsc.Container.run(id, bundle, root=root, stdin=rsc.DEVNULL, stdout=rsc.DEVNULL,
                      stderr=rsc.DEVNULL, detach=detach == "yes")
# The init of a pid namespace does not end before this one is reaped.
c.exec(["sleep", "1000"], stdin=rsc.DEVNULL, stdout=rsc.DEVNULL, stderr=rsc.DEVNULL)
print(c.pid, flush=True)
sys.stdin.read()
"""


def start_worker(box: str, made: rsc.Bundle, root: Path, detach: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, box, str(made.path), str(root), detach],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", ["exit", "SIGKILL"])
def test_attached_ends_with_python(bundle: BundleFactory, root: Path, box: str, how: str) -> None:
    with start_worker(box, bundle(args=FOREVER), root, "no") as worker:
        pid = int(worker.stdout.readline())
        assert Container.load(box, root).pid == pid
        if how == "SIGKILL":
            worker.kill()
    eventually(lambda: not Container.list(root), "the container's deletion")
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of its init")


@pytest.mark.parametrize("how", ["exit", "SIGKILL"])
def test_detached_outlives_python(bundle: BundleFactory, root: Path, box: str, how: str) -> None:
    with start_worker(box, bundle(args=FOREVER), root, "yes") as worker:
        pid = int(worker.stdout.readline())
        if how == "SIGKILL":
            worker.kill()
    container = Container.load(box, root)
    assert (container.status, container.pid) == ("running", pid)
    with container.exec(["echo", "alive"], stdout=rsc.PIPE) as process:
        assert process.stdout.read() == b"alive\n"
    container.delete(force=True)


def test_a_process_is_wanted_at_start_only(
    bundle: BundleFactory, root: Path, box: str, cli: CommandLine
) -> None:
    def change(spec: rsc.Spec) -> None:
        del spec.process

    made = bundle(change)
    assert made.spec.validate() == []
    with pytest.raises(rsc.SpecError, match=r"^\$\.process: .*there is none"):
        Container.run(box, made, root=root)
    container = Container.create(box, made, root=root)
    assert container.status == "created"
    status = Path(f"/proc/{container.pid}/status").read_text()
    for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        assert f"{name}:\t{0:016x}\n" in status
    if not ORDINARY:  # to whom an init that waits is closed
        # What there is to run may come from outside.
        assert container.exec(["true"]).wait() == 0
    with pytest.raises(rsc.SpecError, match=r"^\$\.process: .*there is none") as caught:
        container.start()
    assert caught.value.path == "$.process"
    eventually(lambda: container.status == "stopped", "the end")
    container.delete()
    create = {"capture_output": False, "stdout": subprocess.DEVNULL}
    cli("create", "-b", made.path, box, **create)
    done = cli("start", box, check=False)
    assert done.returncode == 1
    assert "rscontainer: error: $.process" in done.stderr
    cli("delete", "--force", box)


# -- hooks ----------------------------------------------------------------------------------

POINTS = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
]


def hook(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def hooks_into(folder: Path) -> Callable[[rsc.Spec], None]:
    """Have each hook append its name to ``order``, and keep what was on its input."""

    def change(spec: rsc.Spec) -> None:
        spec.mounts.append(
            {
                "destination": str(folder),
                "type": "bind",
                "source": str(folder),
                "options": ["rbind", "rw"],
            }
        )
        spec.hooks = {
            point: [
                hook(f"cat > {folder}/{point}.{number}; echo {point}.{number} >> {folder}/order")
                for number in (1, 2)
            ]
            for point in POINTS
        }

    return change


@pytest.mark.parametrize(
    ("own", "seen"),
    [
        ({}, "program /root\n"),
        ({"env": []}, "unset unset\n"),
        ({"env": ["A=hook"]}, "hook unset\n"),
    ],
    ids=["none", "empty", "its own"],
)
def test_variables_of_a_hook_in_the_container(
    bundle: BundleFactory, root: Path, own: dict[str, Any], seen: str
) -> None:
    """Those of the program where it has no word of its own: config.md does not say, runc does."""

    def change(spec: rsc.Spec) -> None:
        spec.process.env = ["PATH=/bin", "A=first", "A=program"]
        spec.hooks = {"startContainer": [hook("echo ${A-unset} ${HOME-unset} >/seen", **own)]}

    made = bundle(change, own_rootfs=True)
    rsc.run(made, ["true"], root=root, check=True)
    assert made.rootfs.joinpath("seen").read_text() == seen


def test_hooks_order_and_input(bundle: BundleFactory, root: Path, box: str, tmp_path: Path) -> None:
    folder = tmp_path / "hooks"
    folder.mkdir()
    order = folder / "order"

    def change(spec: rsc.Spec) -> None:
        # The place in the rootfs for the mount: a read-only one cannot get it made.
        hooks_into(folder)(spec)
        spec.annotations = {"a": "b"}

    made = bundle(change, args=["sh", "-c", f"echo program >> {order}"], own_rootfs=True)
    container = Container.create(box, made, root=root)
    pid = container.pid
    assert order.read_text().split() == [
        f"{point}.{number}" for point in POINTS[:3] for number in (1, 2)
    ]
    container.start()
    assert container.wait(30) == 0
    container.delete()
    ran = order.read_text().split()
    # The program and poststart run side by side; everything else has its place.
    assert [name for name in ran if name != "program"] == [
        f"{point}.{number}" for point in POINTS for number in (1, 2)
    ]
    assert ran.index("startContainer.2") < ran.index("program") < ran.index("poststop.1")

    statuses = {}
    for point in POINTS:
        state = json.loads((folder / f"{point}.1").read_text())
        assert state == json.loads((folder / f"{point}.2").read_text())
        assert state["id"] == box
        assert state["bundle"] == str(made.path)
        assert state["annotations"] == {"a": "b"}
        assert state["ociVersion"] == "1.3.0"
        statuses[point] = state["status"]
        if point != "poststop":
            assert state["pid"] == pid
    assert statuses == {
        "prestart": "created",
        "createRuntime": "created",
        "createContainer": "created",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }


def test_hooks_run_in_their_namespaces(
    bundle: BundleFactory, root: Path, box: str, tmp_path: Path
) -> None:
    folder = tmp_path / "hooks"
    folder.mkdir()

    def change(spec: rsc.Spec) -> None:
        hooks_into(folder)(spec)
        spec.hooks = {
            point: [hook(f"{{ readlink /proc/self/ns/mnt; pwd; }} > {folder}/{point}")]
            for point in POINTS
        }

    made = bundle(change, own_rootfs=True, args=FOREVER)
    with Container.run(box, made, root=root) as container:
        inside = os.readlink(f"/proc/{container.pid}/ns/mnt")
    outside = os.readlink("/proc/self/ns/mnt")
    said = {point: (folder / point).read_text().split() for point in POINTS}
    assert {point: space for point, (space, _) in said.items()} == {
        "prestart": outside,
        "createRuntime": outside,
        "createContainer": inside,
        "startContainer": inside,
        "poststart": outside,
        "poststop": outside,
    }
    # As with runc: about this the specification is silent.
    assert said["createContainer"][1] == str(made.rootfs)
    assert said["startContainer"][1] == "/"


def test_hook_has_the_environment_it_is_given(
    bundle: BundleFactory, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "env"

    def change(spec: rsc.Spec) -> None:
        spec.hooks = {"createRuntime": [hook(f"/usr/bin/env > {out}", env=["A=1", "B=two words"])]}

    rsc.run(bundle(change, args=["true"]), root=root, check=True)
    said = set(out.read_text().splitlines())
    assert {"A=1", "B=two words"} <= said
    assert {line.partition("=")[0] for line in said} <= {"A", "B", "PWD", "SHLVL", "_", "OLDPWD"}


def test_hook_without_an_environment_has_the_runtimes(
    bundle: BundleFactory, cli: CommandLine, box: str, tmp_path: Path
) -> None:
    """As with runc; but what runs in the container has nothing of the host's."""
    outside = [point for point in POINTS if point != "startContainer"]

    def change(spec: rsc.Spec) -> None:
        spec.hooks = {
            point: [hook(f"echo ${{MARK-none}} $TERM > {tmp_path}/{point}")] for point in outside
        }

    env = {**os.environ, "MARK": "outside", "TERM": "dumb"}
    cli("run", "--bundle", bundle(change, args=["true"]).path, box, env=env)
    said = {point: (tmp_path / point).read_text() for point in outside}
    assert said.pop("createContainer") == "none\n"
    assert set(said.values()) == {"outside dumb\n"}


@pytest.mark.parametrize("point", POINTS[:4])
def test_failing_hook_fails_create(bundle: BundleFactory, root: Path, box: str, point: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.hooks = {point: [hook("exit 0"), hook("echo the reason >&2; exit 3")]}

    with pytest.raises(rsc.ContainerError) as caught:
        Container.run(box, bundle(change, args=["true"]), root=root)
    message = str(caught.value)
    assert "exit status 3: the reason" in message
    assert 'hook "/bin/sh"' in message
    assert f"asked for by $.hooks.{point}[1]" in message
    assert message.count("asked for by") == 1
    assert Container.list(root) == []


def test_failing_start_hook_stops_the_container(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.hooks = {"startContainer": [hook("exit 3")]}

    container = Container.create(box, bundle(change, args=["true"]), root=root)
    with pytest.raises(rsc.ContainerError, match="exit status 3"):
        container.start()
    eventually(lambda: container.status == "stopped", "the container's end")
    container.delete()


def test_failing_poststart_hook_stops_the_container(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.hooks = {"poststart": [hook("exit 3")]}

    made = bundle(change, args=FOREVER)
    with pytest.raises(rsc.ContainerError, match=r"exit status 3.*\$\.hooks\.poststart\[0\]"):
        Container.run(box, made, root=root)
    assert Container.list(root) == []
    container = Container.create(box, made, root=root)
    with pytest.raises(rsc.ContainerError, match=r"exit status 3.*\$\.hooks\.poststart\[0\]"):
        container.start()
    assert container.wait(30) == -9
    assert container.status == "stopped"
    container.delete()


def test_failing_poststop_hook_is_reported_only(
    bundle: BundleFactory, root: Path, box: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ran"

    def change(spec: rsc.Spec) -> None:
        spec.hooks = {"poststop": [hook("exit 3"), hook(f"echo >> {out}")]}

    with Container.run(box, bundle(change, args=["true"]), root=root) as container:
        assert container.wait(30) == 0
    # The remaining hooks run as if it had succeeded (runtime.md#lifecycle).
    assert out.exists()
    assert 'warning: hook "/bin/sh": exit status 3' in capfd.readouterr().err


def test_failing_hook_runs_poststop(
    bundle: BundleFactory, root: Path, box: str, tmp_path: Path
) -> None:
    out = tmp_path / "ran"

    def change(spec: rsc.Spec) -> None:
        spec.hooks = {"createRuntime": [hook("exit 3")], "poststop": [hook(f"echo >> {out}")]}

    with pytest.raises(rsc.ContainerError, match="exit status 3"):
        Container.create(box, bundle(change, args=["true"]), root=root)
    # Stopped and gone on with at step 12, which these hooks follow (runtime.md#lifecycle).
    assert out.exists()


@pytest.mark.parametrize("point", ["createContainer", "startContainer"])
def test_what_a_failing_hook_in_the_container_says(
    bundle: BundleFactory, root: Path, box: str, point: str
) -> None:
    words = " ".join(map(str, range(250)))

    def change(spec: rsc.Spec) -> None:
        spec.hooks = {point: [hook(f"echo {words} >&2; exit 3")]}

    with pytest.raises(rsc.ContainerError, match=f"exit status 3: {words} \\(asked for by"):
        Container.run(box, bundle(change, args=["true"]), root=root)


def test_hook_over_its_timeout(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.hooks = {"createRuntime": [hook("exec sleep 1000", timeout=1)]}

    began = time.monotonic()
    with pytest.raises(rsc.ContainerError, match="longer than its timeout of 1 s"):
        Container.create(box, bundle(change, args=["true"]), root=root)
    assert 1 <= time.monotonic() - began < 60


def test_missing_hook(bundle: BundleFactory, root: Path, box: str) -> None:
    def change(spec: rsc.Spec) -> None:
        spec.hooks = {"createRuntime": [{"path": "/nonexistent/hook"}]}

    with pytest.raises(rsc.SystemCallError) as caught:
        Container.create(box, bundle(change, args=["true"]), root=root)
    assert caught.value.path == "/nonexistent/hook"
    assert caught.value.asked_by == "$.hooks.createRuntime[0]"
    assert "ENOENT: no such file or directory" in str(caught.value)
