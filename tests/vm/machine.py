"""The machine: qemu's command line, whether KVM is of use, and a run with an end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from host import HostError, need, say

if TYPE_CHECKING:
    from pathlib import Path

    from image import Image

QEMU = "qemu-system-x86_64"
KVM = ["-accel", "kvm", "-cpu", "host"]
# Translated code, a thread of the host's for each of the guest's processors.
EMULATED = ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"]
# Longer than a kernel needs to say its name on any host where KVM is worth having.
TRIAL = 20.0
# The mitigations are work for an emulated processor as well, and have nothing to mend there. Grace
# periods, several in a container's life, last as long as the slowest processor takes to pass by:
# expedited, none is waited for that long, and the suite takes a tenth less.
QUICK = "mitigations=off rcupdate.rcu_expedited=1"


@dataclass
class Machine:
    """One run of a guest; its logs are left in ``place``."""

    image: Image
    parcel: Path
    place: Path
    memory: str
    cmdline: list[str]
    accelerator: list[str] = field(default_factory=list)

    @property
    def console(self) -> Path:
        return self.place / "console.log"

    @property
    def output(self) -> Path:
        return self.place / "output.log"

    @property
    def results(self) -> Path:
        return self.place / "results.tar"

    def command(self) -> list[str]:
        words = ["console=ttyS0", "root=/dev/vda", "rw", "panic=-1", "apparmor=1"]
        # Tests write below /tmp, and some want a disk there: Debian 13 would put it in memory.
        words += ["security=apparmor", "systemd.mask=tmp.mount", "systemd.show_status=1"]
        words += self.cmdline
        command = ["nice", QEMU, "-nodefaults", "-no-user-config", "-display", "none"]
        # A guest that reboots has panicked: that is an end too.
        command += ["-no-reboot", *self.accelerator, "-smp", "2", "-m", self.memory]
        command += ["-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)]
        command += ["-append", " ".join(words), "-serial", f"file:{self.console}"]
        disk = "if=none,format=raw"
        command += ["-drive", f"{disk},id=root,snapshot=on,cache=unsafe,file={self.image.disk}"]
        command += ["-device", "virtio-blk-pci,drive=root"]
        command += ["-drive", f"{disk},id=in,readonly=on,file={self.parcel}"]
        command += ["-device", "virtio-blk-pci,drive=in,serial=in", "-device", "virtio-serial-pci"]
        for name, path in {"output": self.output, "results": self.results}.items():
            command += ["-chardev", f"file,id={name},path={path}"]
            command += ["-device", f"virtserialport,chardev={name},name={name}"]
        # Its entropy, without which it would wait for noise.
        return [*command, "-device", "virtio-rng-pci"]

    def run(self, timeout: float) -> None:
        """Run it to its end, showing what the tests print; fail where the time is not enough."""
        for path in (self.console, self.output, self.results):
            path.write_bytes(b"")
        with (self.place / "qemu.log").open("wb") as log, self.output.open("rb") as output:
            qemu = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            try:
                until = time.monotonic() + timeout
                while qemu.poll() is None:
                    show(output.read())
                    if time.monotonic() > until:
                        raise HostError(f"not done within {timeout:.0f} s. {self.last_words()}")
                    time.sleep(0.2)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    qemu.kill()
                qemu.wait()
                show(output.read())
        if qemu.returncode != 0:
            said = (self.place / "qemu.log").read_text(errors="replace").strip()
            raise HostError(f"qemu ended with {qemu.returncode}: {said}")

    def stumbled(self) -> bool:
        """Whether its kernel fell over the breakpoint with which it replaces its own instructions.

        A processor of the machine is a thread of qemu's, and may run one that another has replaced
        by then.
        """
        return b"Oops: int3" in self.console.read_bytes()

    def last_words(self) -> str:
        lines = filter(str.strip, self.console.read_text(errors="replace").splitlines())
        return "\n".join([f"{self.console} ends with:", *list(lines)[-10:]])


def show(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def accelerator(image: Image) -> list[str]:
    """KVM where it boots a guest, which the device file does not say, or else translation.

    The kernel alone panics for want of a root, and the machine ends; it has said its name by then.
    """
    need(QEMU)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return EMULATED
    command = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", *KVM]
    command += ["-m", "256M", "-kernel", str(image.kernel), "-serial", "stdio"]
    command += ["-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL
        )
        said = done.stdout + done.stderr
        if done.returncode == 0 and b"Linux version" in done.stdout:
            return KVM
    except subprocess.TimeoutExpired:
        said = b"its trial did not end"
    why = said.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
    say(f"KVM boots no guest here ({why[0]}): emulating")
    return EMULATED
