"""The guest's disk: Debian in a folder, then in an ext4 image that is made without a mount.

Images are kept by a hash of all that they are made from, and only ever read: a machine writes to a
layer of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from guests import PACKAGES, Guest
from host import HostError, logged, need, python, say

HERE = Path(__file__).parent
DEBIAN = "http://deb.debian.org/debian"
# A sparse file: what is not used takes no room on the host.
SIZE = "6G"
# Where the guest has pytest, and gets the wheel.
VENV = "/opt/tests"
# Who has the session, when the tests are run as an ordinary user.
USER = "tester"
# Of programs that are run in the guest's tree, whatever the host's is.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# What Debian's packages of the engines would start with the machine.
ENGINES = ("containerd.service", "docker.service", "docker.socket", "podman.socket")
# Files of the guest's, and where they go there.
FILES = {
    "tests.service": "etc/systemd/system/tests.service",
    "delegate.conf": "etc/systemd/system/user@.service.d/delegate.conf",
}


@dataclass(frozen=True)
class Image:
    """What a machine is started with."""

    disk: Path
    kernel: Path
    initrd: Path


def image_of(guest: Guest, kernel: str, requirements: list[str], cache: Path) -> Image:
    """Give the image of this guest, made first if there is none yet."""
    place = cache / f"{guest.suite}-{digest(guest, kernel, requirements)}"
    if not place.exists():
        need("debootstrap", "mke2fs")
        if os.geteuid() != 0:
            raise HostError("only root can make the guest's image (debootstrap uses chroot)")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as making:
            log = cache / f"{place.name}.log"
            log.write_bytes(b"")
            Making(Path(making), guest, log).all(kernel, requirements)
            # Only now has it the name by which it is found: one half made is never used.
            Path(making, "image").rename(place)
    return Image(place / "disk.ext4", place / "vmlinuz", place / "initrd.img")


def digest(guest: Guest, kernel: str, requirements: list[str]) -> str:
    """All that an image is made from, as a name."""
    parts = [repr(guest), kernel, *PACKAGES, *requirements, Path(__file__).read_text()]
    parts += [(HERE / "guest" / name).read_text() for name in FILES]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def mirror() -> str:
    """Where this host gets Debian from, if it gets it, or else Debian's own address."""
    if os.environ.get("DEBIAN_MIRROR"):
        return os.environ["DEBIAN_MIRROR"]
    if shutil.which("apt-get"):
        form = "$(ORIGIN) $(LABEL) $(REPO_URI)"
        asked = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
        done = subprocess.run(asked, check=False, capture_output=True, text=True)
        for line in done.stdout.splitlines():
            # The security archive has another label, and others' archives another origin.
            if line.startswith("Debian Debian "):
                return line.split()[2].rstrip("/")
    return DEBIAN


class Making:
    """The making of one image, in a folder of its own."""

    def __init__(self, place: Path, guest: Guest, log: Path) -> None:
        self.guest = guest
        self.log = log
        self.tree = place / "tree"
        self.wheels = place / "wheels"
        self.image = place / "image"
        self.image.mkdir()

    def all(self, kernel: str, requirements: list[str]) -> None:
        say(f"making the image of {self.guest.suite}, once; the log is {self.log}")
        self.debian(kernel)
        self.packages_of_python(requirements)
        self.furnish()
        self.disk()

    def debian(self, kernel: str) -> None:
        include = ",".join([*PACKAGES, kernel])
        # It mounts /proc and /sys in the tree: they end with it, in whatever way it ends.
        command = ["unshare", "--mount", "--propagation=private"]
        command += ["debootstrap", "--variant=minbase", f"--include={include}"]
        logged([*command, self.guest.suite, str(self.tree), mirror()], self.log)

    def packages_of_python(self, requirements: list[str]) -> None:
        """Debian's are older than the tests need; the guest, without a network, gets wheels."""
        command = [python(), "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
        command += ["--python-version", self.guest.python, "--dest", str(self.wheels)]
        logged([*command, *requirements], self.log)
        shutil.copytree(self.wheels, self.tree / "tmp/wheels")
        self.inside("python3", "-m", "venv", VENV)
        pip = [f"{VENV}/bin/pip", "install", "--quiet", "--no-index", "--find-links=/tmp/wheels"]
        self.inside(*pip, *requirements)
        shutil.rmtree(self.tree / "tmp/wheels")

    def furnish(self) -> None:
        for name, place in FILES.items():
            target = self.tree / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / "guest" / name, target)
        self.inside("systemctl", "enable", "--quiet", "tests.service")
        # The tests start engines of their own.
        self.inside("systemctl", "mask", "--quiet", *ENGINES)
        # useradd gives ranges of subordinate ids too; to linger is to have a session from the boot.
        self.inside("useradd", "--uid=1000", "--create-home", "--shell=/bin/bash", USER)
        linger = self.tree / "var/lib/systemd/linger"
        linger.mkdir(parents=True, exist_ok=True)
        (linger / USER).touch()
        (self.tree / "etc/hostname").write_text("guest\n")
        (self.tree / "etc/hosts").write_text("127.0.0.1 localhost guest\n::1 localhost\n")
        (self.tree / "etc/fstab").write_text("")

    def disk(self) -> None:
        for name, pattern in {"vmlinuz": "vmlinuz-*", "initrd.img": "initrd.img-*"}.items():
            (only,) = (self.tree / "boot").glob(pattern)
            shutil.copyfile(only, self.image / name)
        shutil.rmtree(self.tree / "var/cache/apt/archives")
        command = ["mke2fs", "-q", "-t", "ext4", "-d", str(self.tree)]
        logged([*command, str(self.image / "disk.ext4"), SIZE], self.log)

    def inside(self, *command: str) -> None:
        logged(["chroot", str(self.tree), "/usr/bin/env", "-i", f"PATH={PATH}", *command], self.log)
