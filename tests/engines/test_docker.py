"""Docker Engine, with rscontainer among its runtimes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from conftest import PREFIX, eventually

from engines.conftest import (
    IMAGE,
    RUNTIMES,
    Client,
    Daemon,
    alike,
    at_terminal,
    binary,
    cgroup,
    need,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)


class Docker(Client):
    """Docker's command line, on a daemon of the tests' own."""

    def __init__(self, place: Path, parent: str) -> None:
        super().__init__(need("docker"), "--host", f"unix://{place}/docker.sock")
        config = place / "daemon.json"
        runtimes = {name: {"path": binary(name)} for name in RUNTIMES if name != "runc"}
        config.write_text(json.dumps({"runtimes": runtimes}))
        self.daemon = Daemon(
            [
                *[need("dockerd"), "--config-file", config],
                *["--data-root", place / "data", "--exec-root", place / "exec"],
                *["--pidfile", place / "pid", "--host", f"unix://{place}/docker.sock"],
                *["--bridge", "none", "--iptables=false", "--ip6tables=false"],
                *["--cgroup-parent", parent],
                # Nothing is left mounted by it, and it works on every filesystem.
                *["--storage-driver", "vfs"],
            ],
            place,
        )

    def run(
        self, runtime: str, options: list[object], *command: object
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of its own, to its end, and remove that."""
        argv = ["run", "--rm", "--runtime", runtime, *options, IMAGE, *command]
        return self(*argv, check=False)

    def start(self, runtime: str, *options: object, command: tuple[object, ...] = ()) -> str:
        """Start a container in the background; gives its id."""
        argv = ["run", "--detach", "--runtime", runtime, *options, IMAGE, *command]
        return self(*argv).stdout.strip()

    def inspect(self, container: str, template: str) -> str:
        return self("inspect", "--format", template, container).stdout.strip()

    def remove(self, *containers: str) -> None:
        self("rm", "--force", "--volumes", *containers)


@pytest.fixture(scope="module")
def engine(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    need("docker"), need("dockerd")
    with cgroup(f"{PREFIX}docker") as parent:
        docker = Docker(tmp_path_factory.mktemp("docker"), parent)
        try:
            docker.daemon.wait_for(lambda: docker("version"))
            docker("load", "--input", image)
            # What the daemon makes once and keeps is there before the first test looks around.
            docker("run", "--rm", "--network", "host", IMAGE, "true")
            yield docker
        finally:
            docker.daemon.stop()


@pytest.fixture
def docker(engine: Docker) -> Iterator[Docker]:
    """The engine, without containers before and after."""
    yield engine
    left = engine("ps", "--all", "--quiet").stdout.split()
    if left:
        engine.remove(*left)


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


# -- run ------------------------------------------------------------------------------------------


def test_run_gives_output_and_exit_status(docker: Docker) -> None:
    script = "echo out; echo err >&2; exit 7"
    seen = alike(lambda runtime: outcome(docker.run(runtime, [], "sh", "-c", script)))
    assert seen == (7, "out\n", "err\n")


def test_run_hands_standard_input_on(docker: Docker) -> None:
    def scenario(runtime: str) -> str:
        argv = ["run", "--rm", "--interactive", "--runtime", runtime, IMAGE, "wc", "-c"]
        return docker(*argv, input="x" * 100_000).stdout

    assert alike(scenario).strip() == "100000"


@pytest.mark.parametrize(
    ("command", "status"),
    [("/nonexistent", 127), ("nonexistent", 127), ("/etc", 126)],
)
def test_a_program_that_cannot_be_run(docker: Docker, command: str, status: int) -> None:
    seen = alike(lambda runtime: docker.run(runtime, [], command).returncode)
    assert seen == status


def test_a_program_that_is_killed(docker: Docker) -> None:
    seen = alike(lambda runtime: docker.run(runtime, [], "sh", "-c", "kill -9 $$").returncode)
    # The first process of a pid namespace cannot kill itself.
    assert seen == 0
    seen = alike(
        lambda runtime: docker.run(runtime, ["--init"], "sh", "-c", "kill -9 $$").returncode
    )
    assert seen == 137


def test_terminal(docker: Docker) -> None:
    def scenario(runtime: str) -> tuple[int, list[str]]:
        argv = docker.argv("run", "--rm", "-it", "--runtime", runtime, IMAGE, "sh")
        return at_terminal(argv, b"tty; stty size; exit 3\n", until=b"40 100")

    assert alike(scenario) == (3, ["/dev/pts/0", "40 100"])


# -- what is in a container ------------------------------------------------------------------------

# All that a program can find out, and nothing that differs from one container to the next. Left out
# is where this runtime and runc 1.1 are known to differ: what masks are mounted from, and on a host
# with both versions of cgroups that runc leaves the unified hierarchy out, the tmpfs that holds the
# others writable, and has them in random order.
LOOK_AROUND = r"""
id
pwd
umask
ulimit -a
env | grep -v HOSTNAME | sort
grep -E 'Cap|NoNewPrivs|Seccomp' /proc/self/status
cat /proc/self/oom_score_adj
ls -l /dev | awk '{print $1, $3, $4, $5, $6, $NF}'
ls /proc/self/fd | wc -l
grep -v ' /sys/fs/cgroup[ /]' /proc/self/mountinfo |
    awk '$5 ~ "^/(proc|sys)/" {print $5; next} {$1 = $2 = $3 = ""; print}' |
    sed -E 's/[0-9a-f]{64}(-init)?|master:[0-9]+//g'
find /sys/fs/cgroup -maxdepth 2 | grep -v /unified | sort
sed -E 's/[0-9a-f]{12}//' /proc/sys/kernel/hostname /etc/hosts
touch /in-root; ls -l /in-root | awk '{print $1, $3, $4}'
"""


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--read-only", "--tmpfs", "/tmp:size=1m"],
        ["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"],
        ["--user", "1000:1000", "--group-add", "2000", "--workdir", "/tmp"],
        ["--user", "nobody"],
        ["--init"],
        ["--security-opt", "no-new-privileges"],
        ["--security-opt", "seccomp=unconfined"],
        ["--network", "none", "--hostname", "box"],
        ["--network", "host"],
        ["--pid", "host", "--ipc", "host", "--uts", "host"],
        ["--cgroupns", "host"],
        ["--ulimit", "nofile=100:200", "--sysctl", "net.ipv4.ip_forward=1", "--shm-size", "1m"],
        ["--device", "/dev/full:/dev/brimful:r", "--env", "A=b", "--oom-score-adj", "500"],
        # Of different depths: Docker mounts those of the same depth in random order.
        ["--volume", "/etc:/srv/etc:ro", "--volume", "/anonymous"],
    ],
    ids=lambda options: " ".join(options) or "defaults",
)
def test_a_container_is_the_same_from_inside(docker: Docker, options: list[object]) -> None:
    seen = alike(lambda runtime: outcome(docker.run(runtime, options, "sh", "-c", LOOK_AROUND)))
    assert "uid=" in seen[1]
    assert "Seccomp:" in seen[1]


# -- limits ----------------------------------------------------------------------------------------

# Of both versions: the first of each pair that is there.
LIMITS = """
cd /sys/fs/cgroup
cat memory.max memory/memory.limit_in_bytes 2>/dev/null
cat pids.max pids/pids.max 2>/dev/null
cat cpu.max cpu/cpu.cfs_quota_us 2>/dev/null | cut -d ' ' -f 1
"""


def limits(docker: Docker, container: str) -> list[str]:
    return docker("exec", container, "sh", "-c", LIMITS).stdout.split()


def test_limits_and_update(docker: Docker) -> None:
    def scenario(runtime: str) -> list[list[str]]:
        options = ["--memory", "64m", "--pids-limit", 50, "--cpus", "0.5"]
        container = docker.start(runtime, *options)
        seen = [limits(docker, container)]
        more = ["--memory", "128m", "--memory-swap", "256m", "--pids-limit", 60, "--cpus", "1.5"]
        docker("update", *more, container)
        seen.append(limits(docker, container))
        docker.remove(container)
        return seen

    assert alike(scenario) == [
        [str(64 << 20), "50", "50000"],
        [str(128 << 20), "60", "150000"],
    ]


def test_who_takes_too_much_memory_is_killed(docker: Docker) -> None:
    def scenario(runtime: str) -> tuple[str, int]:
        # Docker overlooks an OOM kill where the container ends before it hears of that: it happens
        # under load, with runc too.
        script = "dd if=/dev/zero of=/dev/null bs=200M count=1; status=$?; sleep 1; exit $status"
        container = docker.start(
            runtime, "--memory", "16m", "--memory-swap", "16m", command=("sh", "-c", script)
        )
        status = int(docker("wait", container).stdout)
        told = docker.inspect(container, "{{.State.OOMKilled}}")
        docker.remove(container)
        return told, status

    assert alike(scenario) == ("true", 137)


def test_stats(docker: Docker) -> None:
    def scenario(runtime: str) -> tuple[str, str]:
        container = docker.start(runtime, "--memory", "64m")
        template = "{{.MemUsage}} {{.PIDs}}"
        used, _, limit, pids = docker(
            "stats", "--no-stream", "--format", template, container
        ).stdout.split()
        assert used != "0B"
        docker.remove(container)
        return limit, pids

    assert alike(scenario) == ("64MiB", "1")


# -- what goes on in a container -------------------------------------------------------------------


def test_exec(docker: Docker) -> None:
    def scenario(runtime: str) -> list[tuple[int, str, str]]:
        container = docker.start(runtime, "--env", "A=b")

        def execute(*command: object) -> tuple[int, str, str]:
            return outcome(docker("exec", *command, check=False))

        options = ["--user", "1000:1000", "--workdir", "/tmp", "--env", "C=d"]
        seen = [
            execute(container, "sh", "-c", "echo $A; echo err >&2; exit 3"),
            execute(*options, container, "sh", "-c", "id -u; pwd; echo $A $C"),
            execute(container, "grep", "-E", "Cap|Seccomp:", "/proc/self/status"),
            execute(container, "sh", "-c", "kill -KILL $$"),
            (execute(container, "/nonexistent")[0], "", ""),
            (execute(container, "/etc")[0], "", ""),
        ]
        docker.remove(container)
        return seen

    first, second, _, killed, missing, forbidden = alike(scenario)
    assert first == (3, "b\n", "err\n")
    assert second == (0, "1000\n/tmp\nb d\n", "")
    assert [killed[0], missing[0], forbidden[0]] == [137, 126, 126]


def test_exec_at_a_terminal(docker: Docker) -> None:
    def scenario(runtime: str) -> tuple[int, list[str]]:
        container = docker.start(runtime)
        argv = docker.argv("exec", "-it", container, "sh")
        seen = at_terminal(argv, b"tty; stty size; exit 3\n", until=b"40 100")
        docker.remove(container)
        return seen

    assert alike(scenario) == (3, ["/dev/pts/0", "40 100"])


def test_stop_and_start_again(docker: Docker) -> None:
    def scenario(runtime: str) -> list[str]:
        script = "echo up; trap 'exit 5' TERM; while :; do sleep 0.1; done"
        container = docker.start(runtime, command=("sh", "-c", script))
        eventually(lambda: docker("logs", container).stdout == "up\n", "its first word")
        docker("stop", container)
        seen = [docker.inspect(container, "{{.State.ExitCode}}")]
        docker("start", container)
        seen.append(docker.inspect(container, "{{.State.Status}}"))
        # Its shell may not have set the trap yet: this signal is for who does not listen.
        docker("kill", container)
        seen.append(docker.inspect(container, "{{.State.ExitCode}}"))
        docker.remove(container)
        return seen

    assert alike(scenario) == ["5", "running", "137"]


def test_pause_and_unpause(docker: Docker) -> None:
    def scenario(runtime: str) -> list[str]:
        container = docker.start(runtime)
        docker("pause", container)
        seen = [docker.inspect(container, "{{.State.Status}}")]
        seen.append(str(docker("exec", container, "true", check=False).returncode))
        docker("unpause", container)
        seen.append(docker.inspect(container, "{{.State.Status}}"))
        docker.remove(container)
        return seen

    assert alike(scenario) == ["paused", "1", "running"]


def test_top(docker: Docker) -> None:
    def scenario(runtime: str) -> list[str]:
        container = docker.start(runtime, "--init", command=("sleep", "1000"))
        lines = docker("top", container, "-o", "pid,args").stdout.splitlines()
        docker.remove(container)
        return [line.split(maxsplit=1)[1] for line in lines[1:]]

    assert alike(scenario) == ["/sbin/docker-init -- sleep 1000", "sleep 1000"]


def test_restart_policy(docker: Docker) -> None:
    def scenario(runtime: str) -> list[str]:
        container = docker.start(
            runtime, "--restart", "on-failure:2", command=("sh", "-c", "echo again; exit 1")
        )
        template = "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}"
        eventually(lambda: docker.inspect(container, template) == "2 exited 1", "two more attempts")
        said = docker("logs", container).stdout.split()
        docker.remove(container)
        return said

    assert alike(scenario) == ["again"] * 3


def test_health_check(docker: Docker) -> None:
    def scenario(runtime: str) -> list[str]:
        checks = ["--health-cmd", "test -e /tmp/well", "--health-interval", "200ms"]
        container = docker.start(runtime, *checks, "--health-retries", 2)

        def health() -> str:
            return docker.inspect(container, "{{.State.Health.Status}}")

        seen = []
        eventually(lambda: health() == "unhealthy", "a failed check")
        seen.append(health())
        docker("exec", container, "touch", "/tmp/well")
        eventually(lambda: health() == "healthy", "a passed check")
        seen.append(health())
        docker.remove(container)
        return seen

    assert alike(scenario) == ["unhealthy", "healthy"]


def test_volumes_outlive_containers(docker: Docker, box: str) -> None:
    def scenario(runtime: str) -> list[object]:
        options = ["--volume", f"{box}:/data"]
        docker("volume", "create", box)
        seen: list[object] = [
            outcome(docker.run(runtime, options, "sh", "-c", "echo kept > /data/file")),
            outcome(docker.run(runtime, options, "cat", "/data/file")),
            docker.run(runtime, [*options[:-1], f"{box}:/data:ro"], "rm", "/data/file").returncode,
        ]
        docker("volume", "rm", box)
        return seen

    assert alike(scenario) == [(0, "", ""), (0, "kept\n", ""), 1]


# -- seccomp ---------------------------------------------------------------------------------------


def test_the_default_profile_is_active(docker: Docker) -> None:
    script = "unshare -m true; echo $?; grep Seccomp: /proc/self/status"

    def scenario(runtime: str) -> str:
        return docker.run(runtime, ["--cap-add", "SYS_PTRACE"], "sh", "-c", script).stdout

    assert alike(scenario) == "1\nSeccomp:\t2\n"


def test_a_profile_of_the_users_own(docker: Docker, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))

    def scenario(runtime: str) -> tuple[int, str, str]:
        return outcome(docker.run(runtime, ["--security-opt", f"seccomp={profile}"], "mkdir", "/x"))

    status, _, said = alike(scenario)
    assert status == 1
    assert "No space left on device" in said
