"""containerd and Docker Engine, each in a folder of its own, running the bundle's program."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from competitors import CompetitorError, find, spawn

# Also the name of their containers' cgroups, which they leave.
NAMESPACE = f"bench-{os.getpid()}"
PATIENCE = 30

_numbers = itertools.count()


class Engine:
    """A daemon on a socket of its own; ``run_with`` times its client, to the program's exit."""

    def __init__(self, name: str, daemon: list[str], client: list[str], folder: Path) -> None:
        self.name = name
        self._client = client
        with (folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                daemon, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + PATIENCE
        while self._call("version").returncode != 0:
            if self._daemon.poll() is not None or time.monotonic() > until:
                self.close()
                raise CompetitorError(f"{name} does not start: see {folder}/log")
            time.sleep(0.1)

    def _call(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self._client, *words], check=False, capture_output=True)

    def run_with(self, runtime: str, path: str) -> int:
        raise NotImplementedError

    def close(self) -> None:
        self._daemon.terminate()
        try:
            self._daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        for line in Path("/proc/mounts").read_text().splitlines():
            words = line.split()
            if words[2].startswith("cgroup"):
                with suppress(OSError):
                    Path(words[1], NAMESPACE).rmdir()


class Containerd(Engine):
    def __init__(self, daemon: str, client: str, folder: Path, rootfs: Path) -> None:
        config = folder / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{folder}/s"\n'
            f'[plugins."io.containerd.internal.v1.opt"]\npath = "{folder}/opt"\n'
        )
        argv = [client, "--address", f"{folder}/s", "--namespace", NAMESPACE]
        super().__init__("ctr run", [daemon, "--config", str(config)], argv, folder)
        self._rootfs = str(rootfs)

    def run_with(self, runtime: str, path: str) -> int:
        box = f"{runtime}-{next(_numbers)}"
        chosen = ["run", "--rm", "--runc-binary", path, "--rootfs", self._rootfs]
        return spawn([*self._client, *chosen, box, "/bin/true"])


class Docker(Engine):
    def __init__(
        self, daemon: str, client: str, folder: Path, rootfs: Path, runtimes: dict[str, str]
    ) -> None:
        # Docker's own name for it, which cannot be given to another.
        named = {name: {"path": path} for name, path in runtimes.items() if name != "runc"}
        config = folder / "daemon.json"
        config.write_text(json.dumps({"runtimes": named}))
        argv = [daemon, "--config-file", str(config), "--host", f"unix://{folder}/s"]
        argv += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
        argv += ["--pidfile", f"{folder}/pid", "--cgroup-parent", f"/{NAMESPACE}"]
        argv += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
        argv += ["--storage-driver", "vfs"]
        super().__init__("docker run", argv, [client, "--host", f"unix://{folder}/s"], folder)
        archive = folder / "rootfs.tar"
        subprocess.run(["tar", "-C", str(rootfs), "-cf", str(archive), "."], check=True)
        made = self._call("import", str(archive), "bench")
        if made.returncode != 0:
            self.close()
            raise CompetitorError(f"docker import: {made.stderr.decode().strip()}")

    def run_with(self, runtime: str, path: str) -> int:  # noqa: ARG002 - it knows them by name
        chosen = ["run", "--rm", "--network", "none", "--runtime", runtime]
        return spawn([*self._client, *chosen, "bench", "/bin/true"])


def engines(folder: Path, rootfs: Path, runtimes: dict[str, str]) -> list[Engine | str]:
    """Start those that are installed; of each other one, what to say."""
    started: list[Engine | str] = []
    for name, daemon, client in (("c", "containerd", "ctr"), ("d", "dockerd", "docker")):
        programs = [find(program, Path("/usr/bin")) for program in (daemon, client)]
        if None in programs:
            started.append(f"{daemon} is not installed")
            continue
        place = folder / name
        place.mkdir()
        first, second = map(str, programs)
        try:
            if daemon == "containerd":
                started.append(Containerd(first, second, place, rootfs))
            else:
                started.append(Docker(first, second, place, rootfs, runtimes))
        except CompetitorError as error:
            started.append(str(error))
    return started
