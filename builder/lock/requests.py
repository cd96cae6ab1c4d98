"""What is asked of the package archives: the base that every device has, and the trees of tools.

Sets of names only; versions are the lock's. What apt would pull in and must stay out is declared as installed, so that
the solver finds it satisfied (DESIGN.md section 4).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from appliance.core.canonical import canonical_json
from builder.profile.types import Architecture, Profile

DEBIAN_ARCHITECTURE = {"x86_64": "amd64", "arm64": "arm64"}
KERNEL_PACKAGE = {"x86_64": "linux-image-amd64", "arm64": "linux-image-arm64"}

BASE_PACKAGES = (
    "e2fsprogs",
    "dmsetup",  # its udev rules finish every device-mapper operation
    "kmod",
    "libcryptsetup12",
    "libstdc++6",
    "libtss2-esys-3.0.2-0t64",
    "libtss2-mu-4.0.1-0t64",
    "libtss2-rc0t64",
    "libtss2-tcti-device0t64",
    "mount",
    "nftables",
    "python3-cryptography",
    "python3-minimal",
    "python3-nftables",
    "python3.13",
    "systemd",
    "systemd-boot",
    "systemd-boot-efi",
    "systemd-cryptsetup",
    "systemd-repart",
    "udev",
)

# Declared as installed: shells, package tools, logins, and what only maintainer scripts need.
KEPT_OUT = (
    "adduser",
    "base-passwd",
    "bsdutils",
    "ca-certificates",
    "coreutils",
    "cpio",
    "dbus",
    "debconf",
    "debianutils",
    "default-dbus-system-bus",
    "dpkg",
    "dracut",
    "dracut-install",
    "efibootmgr",
    "gpgv",
    "init-system-helpers",
    "initramfs-tools",
    "libpam-modules",
    "libpam-modules-bin",
    "libpam-runtime",
    "linux-base",
    "login",
    "login.defs",
    "logsave",
    "libtss2-tcti-cmd0t64",
    "libtss2-tcti-mssim0t64",
    "libtss2-tcti-swtpm0t64",
    "mawk",
    "media-types",
    "netbase",
    "openssl",
    "openssl-provider-legacy",
    "passwd",
    "perl-base",
    "python3-bcrypt",
    "python3-jsonschema",  # checks commands of python3-nftables that nobody asks it to check
    "readline-common",
    "sensible-utils",
    "sysvinit-utils",
    "tar",
    "tpm-udev",
    "tzdata",
    "ucf",
    "util-linux",
)

TOOLS_PACKAGES = (
    "bash",
    "coreutils",
    "cryptsetup-bin",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "fdisk",
    "kmod",
    "libtss2-esys-3.0.2-0t64",
    "libtss2-mu-4.0.1-0t64",
    "libtss2-rc0t64",
    "libtss2-tcti-device0t64",
    "mtools",
    "nftables",
    "openssl",
    "python3",
    "python3-pefile",
    "sbsigntool",
    "systemd",
    "systemd-boot-tools",
    "systemd-repart",
    "systemd-ukify",
    "udev",
    "zstd",
)

VM_PACKAGES = (
    "coreutils",
    "fdisk",
    "fonts-dejavu-core",
    "fonts-liberation",
    "litetlog",  # a witness for audit logs that is not ours
    "mosquitto",
    "mtools",
    "ovmf",
    "qemu-efi-aarch64",
    "qemu-system-arm",
    "qemu-system-x86",
    "qemu-utils",
    "socat",
    "swtpm",
    "swtpm-tools",
)


@dataclass(frozen=True)
class Request:
    """What one lock is the answer to."""

    name: str
    architecture: Architecture
    packages: tuple[str, ...]
    kept_out: tuple[str, ...]
    wheels: tuple[str, ...]

    def digest(self) -> str:
        """sha256 over everything that was asked."""
        fields = [
            self.architecture,
            sorted(self.packages),
            sorted(self.kept_out),
            sorted(self.wheels),
        ]
        return hashlib.sha256(canonical_json(fields)).hexdigest()


def profile_request(profile: Profile) -> Request:
    """What a profile asks for: base, kernel, its own packages and wheels, the wheels of its models."""
    wheels = {*profile.software.wheels, *(model.wheel for model in profile.software.models)}
    return Request(
        name=profile.name,
        architecture=profile.architecture,
        packages=tuple(sorted({*BASE_PACKAGES, KERNEL_PACKAGE[profile.architecture], *profile.software.packages})),
        kept_out=KEPT_OUT,
        wheels=tuple(sorted(wheels)),
    )


def tools_request() -> Request:
    """The tree of build tools, for the build host."""
    return Request(
        name="tools", architecture="x86_64", packages=TOOLS_PACKAGES, kept_out=("dpkg", "adduser"), wheels=()
    )


def vm_request() -> Request:
    """The tree of emulators, firmware, broker and fonts that runs an image."""
    return Request(name="vm", architecture="x86_64", packages=VM_PACKAGES, kept_out=("dpkg", "adduser"), wheels=())
