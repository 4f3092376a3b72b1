"""What a kubelet asks for: pods by containerd's CRI plugin, the runtime chosen by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import PATIENCE, PREFIX, eventually

from engines.conftest import IMAGE, Containerd, alike, cgroup, need, run

grpc = pytest.importorskip("grpc", reason="no grpcio to speak with the CRI plugin")
from engines import cri  # noqa: E402 - it needs grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Pods:
    """Pods on the host's network, of an engine that listens on a socket."""

    def __init__(self, socket: Path, logs: Path, parent: str) -> None:
        self._service = cri.RuntimeService(socket, 2 * PATIENCE)
        self.call = self._service.call
        self.close = self._service.close
        self.logs = logs
        self._parent = parent

    def _config(self, name: str) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "uid": f"{name}-uid", "namespace": "tests"},
            "log_directory": str(self.logs),
            "linux": {
                "cgroup_parent": self._parent,
                "security_context": {"namespace_options": {"network": cri.NODE}},
            },
        }

    def run(self, runtime: str, name: str) -> str:
        config = self._config(name)
        made = self.call("RunPodSandbox", config=config, runtime_handler=runtime)
        return str(made.pod_sandbox_id)

    def create(self, pod: str, name: str, script: str, *, called: str = "box", **linux: Any) -> str:
        context = {"namespace_options": {"network": cri.NODE}, **linux.pop("security_context", {})}
        config = {
            "metadata": {"name": called},
            "image": {"image": IMAGE},
            "command": ["sh", "-c", script],
            "envs": [{"key": "A", "value": "b"}],
            "log_path": f"{name}.log",
            "linux": {"security_context": context, **linux},
        }
        made = self.call(
            "CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=self._config(name)
        )
        return str(made.container_id)

    def start(self, pod: str, name: str, script: str, **linux: Any) -> str:
        container = self.create(pod, name, script, **linux)
        self.call("StartContainer", container_id=container)
        return container

    def status(self, container: str) -> Any:
        return self.call("ContainerStatus", container_id=container).status

    def exec(self, container: str, script: str) -> tuple[int, bytes, bytes]:
        done = self.call("ExecSync", container_id=container, cmd=["sh", "-c", script], timeout=30)
        return done.exit_code, done.stdout, done.stderr

    def log(self, name: str) -> list[list[str]]:
        """The log's lines without their times: stream, whether whole, what was said."""
        lines = (self.logs / f"{name}.log").read_text().splitlines()
        return [line.split(" ", 3)[1:] for line in lines]

    def remove(self, pod: str) -> None:
        self.call("StopPodSandbox", pod_sandbox_id=pod)
        self.call("RemovePodSandbox", pod_sandbox_id=pod)


@pytest.fixture(scope="module")
def pods(
    containerd: Containerd, image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pods]:
    # The images of pods are those of this namespace, the plugin's own.
    ctr = [need("ctr"), "--address", containerd.address, "--namespace", "k8s.io"]
    run([*ctr, "images", "import", image])
    with cgroup(f"{PREFIX}pods") as parent:
        pods = Pods(containerd.address, tmp_path_factory.mktemp("logs"), parent)

        def has_image() -> bool:
            # The plugin hears of the image a little later.
            try:
                pods.remove(pods.run("runc", "first"))
            except grpc.RpcError:
                return False
            return True

        try:
            eventually(has_image, "a first pod")
            yield pods
        finally:
            pods.close()


def test_version(pods: Pods) -> None:
    assert pods.call("Version").runtime_name == "containerd"


def test_a_pod_from_its_making_to_its_end(pods: Pods, box: str) -> None:
    def scenario(runtime: str) -> list[object]:
        name = f"{box}-{runtime}"
        pod = pods.run(runtime, name)
        status = pods.call("PodSandboxStatus", pod_sandbox_id=pod).status
        assert status.runtime_handler == runtime
        script = "echo out $A; echo err >&2; trap 'exit 5' TERM; while :; do sleep 0.1; done"
        container = pods.start(pod, name, script)
        eventually(lambda: len(pods.log(name)) == 2, "what it says, in the log")
        seen: list[object] = [
            status.state,
            pods.status(container).state,
            sorted(pods.log(name)),
            pods.exec(container, "echo $A; echo err >&2; exit 3"),
            pods.exec(container, "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; id"),
        ]
        pods.call("StopContainer", container_id=container, timeout=30)
        ended = pods.status(container)
        seen += [ended.state, ended.exit_code, ended.reason]
        pods.call("RemoveContainer", container_id=container)
        pods.remove(pod)
        with pytest.raises(grpc.RpcError) as gone:
            pods.status(container)
        return [*seen, gone.value.code()]

    _, running, log, done, _, *ended = alike(scenario)
    assert running == cri.CONTAINER_RUNNING
    assert log == [["stderr", "F", "err"], ["stdout", "F", "out b"]]
    assert done == (3, b"b\n", b"err\n")
    assert ended == [cri.CONTAINER_EXITED, 5, "Error", grpc.StatusCode.NOT_FOUND]


def test_a_container_that_does_not_stop_is_killed(pods: Pods, box: str) -> None:
    def scenario(runtime: str) -> int:
        name = f"{box}-{runtime}"
        pod = pods.run(runtime, name)
        container = pods.start(pod, name, "trap '' TERM; sleep 1000")
        pods.call("StopContainer", container_id=container, timeout=1)
        status = pods.status(container).exit_code
        pods.remove(pod)
        return int(status)

    assert alike(scenario) == 137


def test_containers_share_the_pods_namespaces(pods: Pods, box: str) -> None:
    def scenario(runtime: str) -> list[bool]:
        name = f"{box}-{runtime}"
        pod = pods.run(runtime, name)
        look = "for kind in ipc uts net mnt pid; do readlink /proc/self/ns/$kind; done"
        containers = [pods.start(pod, name, "sleep 1000", called=f"box{n}") for n in range(2)]
        first, second = (pods.exec(container, look)[1].split() for container in containers)
        pods.remove(pod)
        return [one == other for one, other in zip(first, second)]

    # On the host's network, and a mount namespace for each; the pid namespace is the pod's,
    # where nothing else is asked for.
    assert alike(scenario) == [True, True, True, False, True]


def test_limits_and_confinement(pods: Pods, box: str) -> None:
    look = """
    cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null
    cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null | cut -d ' ' -f 1
    """
    confined = "id -u; touch /x 2>&1; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status"

    def scenario(runtime: str) -> list[object]:
        name = f"{box}-{runtime}"
        pod = pods.run(runtime, name)
        container = pods.start(
            pod,
            name,
            "sleep 1000",
            resources={
                "memory_limit_in_bytes": 64 << 20,
                "cpu_quota": 50_000,
                "cpu_period": 100_000,
            },
            security_context={
                "run_as_user": {"value": 1000},
                "readonly_rootfs": True,
                "no_new_privs": True,
                "seccomp": {"profile_type": 0},
            },
        )
        seen: list[object] = [pods.exec(container, look)[1].split()]
        more = {"memory_limit_in_bytes": 128 << 20, "cpu_quota": 150_000, "cpu_period": 100_000}
        pods.call("UpdateContainerResources", container_id=container, linux=more)
        seen += [pods.exec(container, look)[1].split(), pods.exec(container, confined)[1]]
        pods.remove(pod)
        return seen

    before, after, confinement = alike(scenario)
    assert before == [str(64 << 20).encode(), b"50000"]
    assert after == [str(128 << 20).encode(), b"150000"]
    assert b"1000\n" in confinement
    assert b"Read-only file system" in confinement
    assert confinement.endswith(b"NoNewPrivs:\t1\nSeccomp:\t2\n")


def test_a_program_that_is_not_there(pods: Pods, box: str) -> None:
    def scenario(runtime: str) -> tuple[object, int, bool]:
        name = f"{box}-{runtime}"
        pod = pods.run(runtime, name)
        container = pods.start(pod, name, "sleep 1000")
        with pytest.raises(grpc.RpcError) as refused:
            pods.call("ExecSync", container_id=container, cmd=["/nonexistent"], timeout=30)
        running = pods.status(container).state
        pods.remove(pod)
        return (
            refused.value.code(),
            running,
            "no such file or directory" in (refused.value.details() or ""),
        )

    assert alike(scenario) == (grpc.StatusCode.UNKNOWN, cri.CONTAINER_RUNNING, True)
