"""Podman, with rscontainer among its runtimes: rootful, and rootless for an ordinary user.

Podman has no daemon: conmon(8) calls the runtime and stays with the container.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from conftest import ORDINARY, PREFIX, eventually, need_user_namespaces, subordinate
from limits import SYSTEMD

from engines.conftest import (
    IMAGE,
    RUNTIMES,
    Client,
    alike,
    binary,
    cgroup,
    need,
    run,
    unmount_below,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)
# A session of systemd's, where the hierarchy is version 2's alone, lets a user limit too.
limits = pytest.mark.skipif(
    ORDINARY and not (SYSTEMD and Path("/sys/fs/cgroup/cgroup.controllers").exists()),
    reason="needs root: to limit, on version 1 of cgroups Podman lets nobody else",
)

# Podman raises limits otherwise, which takes CAP_SYS_RESOURCE.
SETTINGS = """
[containers]
default_ulimits = []
[engine]
cgroup_manager = "{manager}"
events_logger = "file"
infra_image = "{image}"
lock_type = "file"
runtime_supports_json = ["rscontainer", "runc"]
[engine.runtimes]
{runtimes}
"""


class Outcome(NamedTuple):
    """What a command of Podman's came to."""

    status: int
    output: str
    # Without Podman's own, which name the runtime.
    errors: str


class Podman(Client):
    """The command line of Podman, in folders of its own."""

    def __init__(self, place: Path, parent: str | None) -> None:
        self.place = place
        self.parent = (parent or "libpod_parent").strip("/")
        self._parent = ["--cgroup-parent", parent] if parent else []
        names = [f'{name} = ["{binary(name)}"]' for name in RUNTIMES]
        settings = place / "containers.conf"
        manager = "systemd" if SYSTEMD else "cgroupfs"
        settings.write_text(
            SETTINGS.format(image=IMAGE, manager=manager, runtimes="\n".join(names))
        )
        storage = place / "storage.conf"
        roots = f'graphroot = "{place}/root"\nrunroot = "{place}/runroot"'
        storage.write_text(f'[storage]\ndriver = "vfs"\n{roots}\n')
        environment = {
            **os.environ,
            "CONTAINERS_CONF": str(settings),
            "CONTAINERS_STORAGE_CONF": str(storage),
            "XDG_CONFIG_HOME": str(place / "config"),
            "XDG_DATA_HOME": str(place / "data"),
        }
        if ORDINARY and not SYSTEMD:
            (place / "run").mkdir(mode=0o700)
            environment["XDG_RUNTIME_DIR"] = str(place / "run")
        options = [f"--{name}={place / name}" for name in ("root", "runroot", "tmpdir")]
        # conmon leaves a file `oom` where it was started.
        super().__init__(need("podman"), *options, environment=environment, folder=place)

    def argv(self, *args: object) -> list[str]:
        """The first is the runtime."""
        return super().argv("--runtime", *args)

    def outcome(self, runtime: str, *args: object, **more: Any) -> Outcome:
        done = self(runtime, *args, check=False, **more)
        # For who reads why a test failed: what is compared is less.
        sys.stderr.write(done.stderr)
        # Podman's own: `Error: …` names the runtime, and the log has the time.
        lines = [re.sub("^Error: .*", "Error", line) for line in done.stderr.splitlines()]
        errors = "\n".join(line for line in lines if not line.startswith("time="))
        return Outcome(done.returncode, done.stdout, errors)

    def of_run(self, *options: object) -> list[object]:
        """The words of `podman run` up to the image."""
        network = [] if {"--network", "--pod"} & set(options) else ["--network", "none"]
        parent = [] if "--pod" in options else self._parent
        return ["run", *network, *parent, *options, IMAGE]

    def run(self, runtime: str, *options: object, script: str, **more: Any) -> Outcome:
        """Run a script in a container of its own, to its end, and remove that."""
        argv = [*self.of_run("--rm", *options), "sh", "-c", script]
        return self.outcome(runtime, *argv, **more)

    @contextlib.contextmanager
    def running(
        self, runtime: str, *options: object, command: tuple[object, ...] = ()
    ) -> Iterator[str]:
        """A container in the background; it is removed afterwards."""
        argv = [*self.of_run("--detach", *options), *command]
        container = self(runtime, *argv).stdout.strip()
        try:
            yield container
        finally:
            self(runtime, "rm", "--force", "--time", "0", container)

    def inspect(self, runtime: str, container: str, template: str) -> str:
        return self(runtime, "inspect", "--format", template, container).stdout.strip()

    def pod(self, runtime: str, *options: object) -> str:
        argv = ["--network", "none", *self._parent, *options]
        return self(runtime, "pod", "create", *argv).stdout.strip()

    def typed(self, runtime: str, *args: object) -> tuple[int, str]:
        """Run a command on a terminal; gives its status and what was seen."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.argv(runtime, *args),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=self.environment,
            start_new_session=True,
        )
        os.close(theirs)
        seen = b""
        # The last of those who had the other side open has closed it: EIO.
        with contextlib.suppress(OSError):
            while read := os.read(ours, 4096):
                seen += read
        os.close(ours)
        return process.wait(), seen.decode()

    def end(self) -> None:
        if ORDINARY:
            # Its files are of the user's other ids, too; and something keeps the user's namespaces.
            remove = ["unshare", "rm", "-rf", self.place / "root", self.place / "runroot"]
            self(RUNTIMES[0], *remove, check=False)
            for keeper in self.place.rglob("pause.pid"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(keeper.read_text()), signal.SIGKILL)
        unmount_below(self.place)
        shutil.rmtree(self.place, ignore_errors=True)


@pytest.fixture(scope="module")
def podman(image: Path) -> Iterator[Podman]:
    need("podman")
    if ORDINARY:
        need_user_namespaces()
        if subordinate("newuidmap", "/etc/subuid") is None:
            pytest.skip("needs several ids: newuidmap, and a range for this user in /etc/subuid")
    # Open on the way to it, for containers whose root is another user.
    place = Path(tempfile.mkdtemp(prefix="rsc-podman-"))
    place.chmod(0o755)
    # A user's containers are in the cgroup that the tests run in, or where systemd makes one.
    own = not ORDINARY and not SYSTEMD
    with cgroup(f"{PREFIX}podman") if own else contextlib.nullcontext() as parent:
        podman = Podman(place, parent)
        try:
            podman(RUNTIMES[0], "load", "--input", image)
            # It leaves its own cgroup, a user's first call the keeper of the namespaces.
            podman(RUNTIMES[0], *podman.of_run("--rm"), "true")
            yield podman
        finally:
            podman.end()


# -- run --------------------------------------------------------------------------------------


LIMIT = "cd /sys/fs/cgroup; cat {} 2>/dev/null || cat {}"


@pytest.mark.parametrize(
    ("options", "script", "status", "output"),
    [
        pytest.param([], "echo out; echo err >&2; exit 3", 3, r"out", id="output and status"),
        pytest.param(["--read-only"], "touch /x", 1, "", id="read-only"),
        pytest.param(["--read-only"], "touch /tmp/x && echo ok", 0, "ok", id="read-only, not /tmp"),
        pytest.param(
            ["--cap-drop", "all", "--cap-add", "net_raw"],
            "grep Cap /proc/self/status",
            0,
            r"CapInh:\s0+\nCapPrm:\s0+2000\nCapEff:\s0+2000\nCapBnd:\s0+2000\nCapAmb:\s0+",
            id="capabilities",
        ),
        pytest.param(
            ["--user", "1000:1001", "--group-add", "33"],
            "id; grep CapEff /proc/self/status",
            0,
            r"uid=1000\S* gid=1001\S* groups=33\S*\nCapEff:\s0+",
            id="user",
        ),
        pytest.param(
            ["--init"], "tr '\\0' ' ' </proc/1/cmdline", 0, r"\S+init -- sh .*", id="init"
        ),
        pytest.param(
            ["--tmpfs", "/t:size=1m,mode=700"],
            "touch /t/x; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /t",
            0,
            "1024\n700",
            id="tmpfs",
        ),
        pytest.param(["--shm-size", "1m"], "df -k /dev/shm | grep -c ' 1024 '", 0, "1", id="shm"),
        pytest.param(["--hostname", "box"], "hostname", 0, "box", id="hostname"),
        pytest.param(
            ["--sysctl", "net.ipv4.ip_forward=1"],
            "cat /proc/sys/net/ipv4/ip_forward",
            0,
            "1",
            id="sysctl",
        ),
        pytest.param(
            ["--network", "host", "--pid", "host", "--uts", "host"],
            "[ -e /proc/2 ] && ls /sys/class/net",
            0,
            r"(.|\n)*\blo\b(.|\n)*",
            id="the host's namespaces",
        ),
        pytest.param(
            ["--privileged"],
            "grep Seccomp: /proc/self/status; mkdir /m && mount -t tmpfs t /m",
            0,
            r"Seccomp:\s0",
            id="privileged",
        ),
        pytest.param(
            ["--uidmap", "0:1000:5000"],
            "cat /proc/self/uid_map | tr -s ' '; id -u",
            0,
            r"0 1000 5000\n0",
            id="ids mapped",
        ),
        pytest.param(
            [], "grep Seccomp: /proc/self/status", 0, r"Seccomp:\s2", id="the default filter"
        ),
        pytest.param([], "unshare -m true", 1, "", id="what the default filter forbids"),
        pytest.param(
            ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"],
            "grep -E 'NoNew|Seccomp:' /proc/self/status",
            0,
            r"NoNewPrivs:\s1\nSeccomp:\s0",
            id="no filter",
        ),
        pytest.param(
            ["--memory", "64m"],
            LIMIT.format("memory.max", "memory/memory.limit_in_bytes"),
            0,
            "67108864",
            id="memory",
            marks=limits,
        ),
        pytest.param(
            ["--pids-limit", "33"],
            LIMIT.format("pids.max", "pids/pids.max"),
            0,
            "33",
            id="pids",
            marks=limits,
        ),
        pytest.param(
            ["--cpus", "0.5"],
            LIMIT.format("cpu.max", "cpu/cpu.cfs_quota_us"),
            0,
            "50000( 100000)?",
            id="cpus",
            marks=limits,
        ),
    ],
)
def test_run(podman: Podman, options: list[str], script: str, status: int, output: str) -> None:
    seen = alike(lambda runtime: podman.run(runtime, *options, script=script))
    assert seen.status == status, seen
    assert re.fullmatch(output, seen.output.strip()), seen.output


@limits
def test_run_out_of_memory(podman: Podman) -> None:
    options = ["--memory", "20m", "--memory-swap", "20m"]
    script = "dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null"
    assert alike(lambda runtime: podman.run(runtime, *options, script=script)).status == 137


@pytest.mark.parametrize(("program", "status"), [("nonexistent", 127), ("/etc", 126)])
def test_a_program_that_cannot_be_run(podman: Podman, program: str, status: int) -> None:
    argv = [*podman.of_run("--rm"), program]
    assert alike(lambda runtime: podman.outcome(runtime, *argv)) == (status, "", "Error")
    # What is shown is the error and nothing else, as it is with runc.
    shown = podman("rscontainer", *argv, check=False).stderr
    assert re.match(rf'Error: rscontainer: find program "{program}": [^\n]*\n$', shown), shown


def test_run_hands_standard_input_on(podman: Podman) -> None:
    def scenario(runtime: str) -> Outcome:
        return podman.run(runtime, "-i", script="wc -c", input="x" * 100_000)

    assert alike(scenario) == (0, "100000\n", "")


def test_run_on_a_terminal(podman: Podman) -> None:
    argv = [*podman.of_run("-it", "--rm"), "sh", "-c", "tty; test -c /dev/console && exit 4"]
    assert alike(lambda runtime: podman.typed(runtime, *argv)) == (4, "/dev/pts/0\r\n")


def test_run_hands_descriptors_on(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("passed")

    def scenario(runtime: str) -> Outcome:
        argv = podman.argv(runtime, *podman.of_run("--rm", "--preserve-fds", "1"))
        script = 'exec 3<"$0" && exec "$@" sh -c "cat <&3"'
        done = run(
            ["sh", "-c", script, tmp_path / "file", *argv], check=False, env=podman.environment
        )
        return Outcome(done.returncode, done.stdout, "")

    assert alike(scenario) == (0, "passed", "")


def test_volumes(podman: Podman, tmp_path: Path) -> None:
    def scenario(runtime: str) -> tuple[Outcome, str]:
        place = tmp_path / runtime
        place.mkdir()
        options = ["-v", f"{place}:/w", "-v", f"{place}:/r:ro"]
        seen = podman.run(runtime, *options, script="echo hi >/w/x; cat /r/x; touch /r/y")
        return seen, (place / "x").read_text()

    seen, left = alike(scenario)
    assert (seen.status, seen.output, left) == (1, "hi\n", "hi\n")


def test_a_filter_of_ones_own(podman: Podman, tmp_path: Path) -> None:
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    options = ["--security-opt", f"seccomp={profile}"]
    seen = alike(lambda runtime: podman.run(runtime, *options, script="mkdir /x"))
    assert seen.status == 1
    assert "No space left on device" in seen.errors


def test_ids_kept(podman: Podman) -> None:
    if not ORDINARY:
        pytest.skip("an ordinary user's id is kept: in the run as one")
    seen = alike(lambda runtime: podman.run(runtime, "--userns", "keep-id", script="id -u"))
    assert seen == (0, f"{os.geteuid()}\n", "")


# -- a container's life -----------------------------------------------------------------------


TRAPS = "trap 'echo term; exit 5' TERM; echo up; while :; do sleep 0.1; done"


def test_exec(podman: Podman) -> None:
    def scenario(runtime: str) -> list[object]:
        with podman.running(runtime, command=("sleep", "1000")) as box:
            argv = [
                [box, "sh", "-c", "echo out; echo err >&2; exit 7"],
                ["-u", "1000", "-w", "/tmp", "-e", "X=y", box, "sh", "-c", "id -u; pwd; echo $X"],
                ["--privileged", box, "grep", "CapEff", "/proc/self/status"],
                [box, "nonexistent"],
                [box, "/etc"],
            ]
            seen: list[object] = [podman.outcome(runtime, "exec", *words) for words in argv]
            seen.append(podman.outcome(runtime, "exec", "-i", box, "cat", input="data"))
            seen.append(podman.typed(runtime, "exec", "-it", box, "sh", "-c", "tty; exit 4"))
            podman(runtime, "exec", "-d", box, "touch", "/tmp/done")
            there = ["exec", box, "test", "-e", "/tmp/done"]
            eventually(lambda: podman.outcome(runtime, *there).status == 0, "what exec -d makes")
            return seen

    out, user, _, missing, folder, piped, typed = alike(scenario)
    assert out == (7, "out\n", "err")
    assert user == (0, "1000\n/tmp\ny\n", "")
    assert (missing.status, folder.status) == (127, 126)
    assert piped == (0, "data", "")
    assert typed == (4, "/dev/pts/0\r\n")


def test_stop_start_kill_and_logs(podman: Podman) -> None:
    def scenario(runtime: str) -> list[object]:
        with podman.running(runtime, command=("sh", "-c", TRAPS)) as box:
            up = lambda times: lambda: podman(runtime, "logs", box).stdout.count("up") == times  # noqa: E731
            eventually(up(1), "its first words")
            podman(runtime, "stop", "--time", "30", box)
            seen: list[object] = [
                podman.inspect(runtime, box, "{{.State.Status}} {{.State.ExitCode}}")
            ]
            seen.append(podman.outcome(runtime, "exec", box, "true"))
            podman(runtime, "start", box)
            eventually(up(2), "its words after start")
            seen.append(
                podman.inspect(runtime, box, "{{.State.Status}} {{.OCIRuntime}}").split()[0]
            )
            podman(runtime, "kill", box)
            seen.append(podman.outcome(runtime, "wait", box))
            podman(runtime, "restart", box)
            eventually(up(3), "its words after restart")
            podman(runtime, "kill", "--signal", "TERM", box)
            seen.append(podman.outcome(runtime, "wait", box))
            seen.append(podman.outcome(runtime, "logs", box))
            return seen

    stopped, _, running, killed, ended, logs = alike(scenario)
    assert (stopped, running) == ("exited 5", "running")
    assert (killed.output, ended.output) == ("137\n", "5\n")
    assert logs == (0, "up\nterm\nup\nup\nterm\n", "")


def test_restarted_when_it_fails(podman: Podman) -> None:
    def scenario(runtime: str) -> list[str]:
        command = ("sh", "-c", "echo go; exit 1")
        with podman.running(runtime, "--restart", "on-failure:2", command=command) as box:
            said = lambda: podman(runtime, "logs", box).stdout  # noqa: E731
            eventually(lambda: said().count("go") == 3, "three starts")
            template = "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}"
            ended = "exited 2 1"
            state = lambda: podman.inspect(runtime, box, template)  # noqa: E731
            eventually(lambda: state() == ended, "the end")
            return [said(), ended]

    assert alike(scenario)[0] == "go\n" * 3


@limits
def test_pause(podman: Podman) -> None:
    def scenario(runtime: str) -> list[object]:
        with podman.running(runtime, command=("sleep", "1000")) as box:
            state = lambda: podman.inspect(runtime, box, "{{.State.Status}}")  # noqa: E731
            podman(runtime, "pause", box)
            seen: list[object] = [state(), podman.outcome(runtime, "exec", box, "true")]
            podman(runtime, "unpause", box)
            return [*seen, state(), podman.outcome(runtime, "exec", box, "true")]

    paused, refused, running, done = alike(scenario)
    assert (paused, running) == ("paused", "running")
    assert (refused.status, done.status) == (255, 0)


@limits
def test_update(podman: Podman) -> None:
    if podman("runc", "update", "--help", check=False).returncode:
        pytest.skip("podman is not new enough here: it has no update")

    def scenario(runtime: str) -> tuple[Outcome, Outcome]:
        with podman.running(runtime, command=("sleep", "1000")) as box:
            changed = podman.outcome(runtime, "update", "--memory", "100m", "--cpus", "0.3", box)
            script = LIMIT.format("memory.max cpu.max", "memory/*limit_in_bytes cpu/*quota_us")
            return (
                Outcome(changed.status, "", changed.errors),
                podman.outcome(runtime, "exec", box, "sh", "-c", script),
            )

    changed, shown = alike(scenario)
    assert changed.status == 0
    assert "104857600\n" in shown.output
    assert re.search(r"^30000\b", shown.output, re.MULTILINE)


@limits
def test_stats_and_top(podman: Podman) -> None:
    def scenario(runtime: str) -> list[object]:
        with podman.running(runtime, "--memory", "64m", command=("sleep", "1000")) as box:
            form = "{{.PIDs}} {{.MemUsage}}"
            stats = podman(runtime, "stats", "--no-stream", "--format", form, box).stdout
            # How much of its limit it uses is not the same twice.
            pids, _, _, limit = stats.split()
            return [pids, limit, podman.outcome(runtime, "top", box, "pid", "user", "args")]

    pids, limit, top = alike(scenario)
    assert (pids, limit) == ("1", "67.11MB")
    assert [line.split() for line in top.output.splitlines()[1:]] == [
        ["1", "root", "sleep", "1000"]
    ]


def test_health(podman: Podman) -> None:
    def scenario(runtime: str) -> list[object]:
        options = ["--health-cmd", "test -e /ok", "--health-interval", "disable"]
        with podman.running(
            runtime, *options, "--health-retries", "1", command=("sleep", "1000")
        ) as box:
            check = lambda: podman.outcome(runtime, "healthcheck", "run", box)  # noqa: E731
            state = lambda: podman.inspect(runtime, box, "{{.State.Health.Status}}")  # noqa: E731
            ill = [check(), state()]
            podman(runtime, "exec", box, "touch", "/ok")
            return [*ill, check(), state()]

    ill, unhealthy, well, healthy = alike(scenario)
    assert (ill.status, unhealthy) == (1, "unhealthy")
    assert (well.status, healthy) == (0, "healthy")


def test_checkpoint_says_why_not(podman: Podman) -> None:
    if ORDINARY:
        pytest.skip("needs root: to checkpoint")
    need("criu")
    if run(["criu", "check"], check=False).returncode == 0:
        pytest.skip("criu works with this kernel: it is used by the tests of checkpoint")
    with podman.running("rscontainer", command=("sleep", "1000")) as box:
        done = podman("rscontainer", "container", "checkpoint", box, check=False)
    assert done.returncode == 125
    assert "criu failed" in done.stderr


# -- pods -------------------------------------------------------------------------------------


@contextlib.contextmanager
def swept(parent: str) -> Iterator[None]:
    """Takes away the cgroups that Podman leaves of a pod, in hierarchies it has no limits for."""
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    points = [f"{line[1]}/{parent}" for line in lines if line[2].startswith("cgroup")]

    def groups() -> set[str]:
        return {path for point in points for path, _, _ in os.walk(point)}

    before = groups()
    try:
        yield
    finally:
        for path in sorted(groups() - before, reverse=True):
            # One with a process in it is for the check of what is left.
            with contextlib.suppress(OSError):
                Path(path).rmdir()


def test_pod(podman: Podman) -> None:
    def scenario(runtime: str) -> list[object]:
        with swept(podman.parent):
            return of_pod(runtime)

    def of_pod(runtime: str) -> list[object]:
        pod = podman.pod(runtime, "--hostname", "pod", "--share", "uts,ipc,net,pid")
        try:
            with podman.running(runtime, "--pod", pod, command=("sleep", "1234")):
                joined = podman.run(
                    runtime, "--pod", pod, script="hostname; ps | grep -q '[s]leep 1234'"
                )
                top = podman(runtime, "pod", "top", pod, "args").stdout.splitlines()[1:]
                seen: list[object] = [joined.status, joined.output.split()[0], sorted(top)]
                states = podman(runtime, "pod", "ps", "--format", "{{.Status}}").stdout
                seen.append(states)
                podman(runtime, "pod", "stop", "--time", "0", pod)
                states = podman(runtime, "pod", "ps", "--format", "{{.Status}}").stdout
                return [*seen, states]
        finally:
            podman(runtime, "pod", "rm", "--force", "--time", "0", pod)

    status, hostname, top, running, stopped = alike(scenario)
    assert (status, hostname, running, stopped) == (0, "pod", "Running\n", "Exited\n")
    assert [line.rstrip() for line in top] == ["sleep 1000", "sleep 1234"]


KUBE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "kube"},
    "spec": {
        "hostNetwork": True,
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "first",
                "image": IMAGE,
                "command": ["sh", "-c", "echo first; touch /shared/x; sleep 1000"],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            },
            {
                "name": "second",
                "image": IMAGE,
                "command": ["sh", "-c", "until [ -e /shared/x ]; do sleep 0.1; done; echo second"],
                "securityContext": {"readOnlyRootFilesystem": True},
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            },
        ],
        "volumes": [{"name": "shared", "emptyDir": {}}],
    },
}


def test_play_kube(podman: Podman, tmp_path: Path) -> None:
    file = tmp_path / "kube.yaml"
    # JSON is YAML, too.
    file.write_text(json.dumps(KUBE))

    def scenario(runtime: str) -> list[object]:
        # Podman's own choice: no other can be asked for.
        with swept("libpod_parent"):
            played = podman.outcome(runtime, "play", "kube", file)
            try:
                logs = lambda name: podman(runtime, "logs", f"kube-{name}").stdout  # noqa: E731
                eventually(lambda: logs("second"), "what the second says")
                seen: list[object] = [logs("first"), logs("second")]
                seen.append(podman.outcome(runtime, "exec", "kube-first", "hostname").status)
            finally:
                down = podman.outcome(runtime, "play", "kube", "--down", file)
            return [played.status, played.errors, *seen, down.status]

    assert alike(scenario) == [0, "", "first\n", "second\n", 0, 0]
