"""The device of the chaos test: settings, credentials, a small file system of its own for the spool, and its clock."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from appliance.formats.device import (
    AuditConfig,
    DataLaneConfig,
    DeviceConfig,
    FrameSource,
    InferenceConfig,
    LaneConfig,
    Namespace,
    UplinkConfig,
    encode_device_config,
)
from tests.integration.services_harness import Authority

DEVICE = "line-3-cell-7"
NAMESPACE = Namespace(enterprise="acme", site="plant-1", line="line-3")
_BLOCK = 1 << 16
_DISK = "192m"
_EXPIRY_S = 7200


class Disk:
    """A file system in memory, of a fixed size: it can be filled to the last byte. In a mount namespace of our own."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(path)], check=True)
        self.path = path

    def fill(self) -> None:
        """To the last byte, whoever else writes meanwhile."""
        with contextlib.suppress(OSError), (self.path / "ballast").open("ab", buffering=0) as file:
            for size in (_BLOCK, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def release(self) -> None:
        """Room again."""
        (self.path / "ballast").unlink(missing_ok=True)

    def umount(self) -> None:
        """Give it back, with what is on it."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


class WallClock:
    """The wall clock of the service, read from a file; the time since boot goes on undisturbed."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "clock-offset"
        self.step(0)

    def step(self, seconds: int) -> None:
        """So far from the true time, from now on."""
        staged = self.file.with_suffix(".new")
        staged.write_text(str(seconds))
        staged.replace(self.file)


def provision(
    directory: Path,
    authority: Authority,
    *,
    port: int,
    delivery: str,
    batch: bool = True,
    data_bytes: int = 128 << 20,
    receive_maximum: int = 200,
) -> Path:
    """Credentials and settings below `directory`; returns the settings' file. port: of the broker."""
    credentials = directory / "credentials"
    credentials.mkdir()
    certificate, key = authority.issue(DEVICE, address=None)
    for name, data in {
        "device-id": DEVICE.encode(),
        "broker-host": b"127.0.0.1",
        "broker-port": str(port).encode(),
        "broker-ca": authority.pem(),
        "client-certificate": certificate,
        "client-key": key,
    }.items():
        (credentials / f"edgeseal.{name}").write_bytes(data)
    config = DeviceConfig(
        product="label-check",
        profile="virtual-x86_64",
        version=7,
        development=True,
        inference=InferenceConfig(
            model="page-orientation", source=FrameSource(kind="virtio", device="/dev/none", width=640, height=640)
        ),
        uplink=UplinkConfig(
            namespace=NAMESPACE,
            delivery=delivery,  # type: ignore[arg-type]
            receipt_s=5,
            alarm=LaneConfig(bytes=8 << 20, expiry_s=_EXPIRY_S),
            audit=LaneConfig(bytes=8 << 20, share=20),
            data=DataLaneConfig(bytes=data_bytes, expiry_s=_EXPIRY_S, batch=batch),
            keepalive_s=5,
            receive_maximum=receive_maximum,
        ),
        audit=AuditConfig(),
    )
    path = directory / "device.json"
    path.write_bytes(encode_device_config(config))
    return path
