"""The guests: which Debian, which packages, and how it is told what to be."""

from __future__ import annotations

from dataclasses import dataclass

# What the suite needs of a host, the engines, and what makes the host one with systemd and a user's
# session.
PACKAGES = (
    "apparmor",
    "busybox-static",
    "catatonit",
    "conmon",
    "containerd",
    "containernetworking-plugins",
    "criu",
    "crun",
    "dbus",
    "dbus-user-session",
    "docker.io",
    "fuse-overlayfs",
    "initramfs-tools",
    "iproute2",
    "iptables",
    "kmod",
    "libpam-systemd",
    "podman",
    "procps",
    "python3",
    "python3-venv",
    "runc",
    "selinux-policy-default",
    "selinux-utils",
    "slirp4netns",
    "systemd",
    "systemd-sysv",
    "udev",
    "uidmap",
    "zstd",
)
# The drivers of virtual machines and no others: a tenth of the size, and a faster boot.
KERNEL = "linux-image-cloud-amd64"


@dataclass(frozen=True)
class Guest:
    """One of Debian's releases."""

    suite: str
    # The version of its Python, for which packages are downloaded.
    python: str


GUESTS = {
    # Linux 6.1, systemd 252: the oldest that is looked after.
    "bookworm": Guest("bookworm", "3.11"),
    # Linux 6.12, systemd 257.
    "trixie": Guest("trixie", "3.13"),
}
