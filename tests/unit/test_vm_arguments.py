"""QEMU's argument lists, whole, as golden files; and what cannot be said in one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from appliance.core.errors import InputError
from builder.vm.arguments import qemu_arguments
from builder.vm.config import DiskFile, Firmware, GuestService, HostForward, QemuConfig
from builder.vm.firmware import CODE
from tests.conftest import Golden

DATA = Path(__file__).parent / "data"
DIRECTORY = Path("/machine")
UUID = "8ab7c3b2-6a53-5d0e-9a3f-0d6f2d7c1e11"

FULL = QemuConfig(
    architecture="x86_64",
    directory=DIRECTORY,
    disk=DiskFile(Path("/state/disk.qcow2"), "qcow2"),
    firmware=Firmware(CODE["x86_64"], Path("/state/variables.fd")),
    uuid=UUID,
    tpm_socket=DIRECTORY / "tpm.sock",
    broker_port=40_123,
    host_forwards=(HostForward(8080, 80), HostForward(8443, 443)),
    credentials=(Path("/state/credentials/edgeseal.broker-ca"), Path("/state/credentials/edgeseal.device-id")),
    share=Path("/srv/share"),
    pcap=DIRECTORY / "network.pcap",
    incoming=True,
)
PLAIN_ARM = QemuConfig(
    architecture="arm64",
    directory=DIRECTORY,
    disk=DiskFile(Path("/build/disk.raw"), "raw"),
    firmware=Firmware(CODE["arm64"], Path("/state/variables.fd")),
    uuid=UUID,
    memory_mib=2048,
    cpus=1,
)

UPDATED = QemuConfig(
    architecture="x86_64",
    directory=DIRECTORY,
    disk=DiskFile(Path("/state/disk.raw"), "raw"),
    firmware=Firmware(CODE["x86_64"], Path("/state/variables.fd")),
    uuid=UUID,
    services=(GuestService("10.0.2.101", 8080, 40_124), GuestService("10.0.2.102", 8081, 40_125)),
    medium=Path("/state/medium.raw"),
    block_log=DIRECTORY / "writes.log",
)
PLUGGED_LATER = dataclasses.replace(UPDATED, plugged=False, block_log=None, services=(), clock="1970-01-01T00:00:00")

CONFIGS = [
    ("x86_64-full", FULL),
    ("x86_64-updated", UPDATED),
    ("x86_64-plugged-later", PLUGGED_LATER),
    ("arm64-plain", PLAIN_ARM),
]


@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_the_argument_list(name: str, config: QemuConfig, golden: Golden) -> None:
    golden(DATA / f"qemu-{name}.txt", _readable(qemu_arguments(config)))


def test_a_medium_is_written_only_where_that_is_asked_for() -> None:
    for writable, word in ((False, "readonly=on"), (True, "readonly=off")):
        config = dataclasses.replace(UPDATED, medium_writable=writable)
        assert f"if=none,id=medium,format=raw,{word},file=/state/medium.raw" in qemu_arguments(config)


def test_a_path_with_a_comma_would_be_two_options() -> None:
    config = QemuConfig(
        architecture="x86_64",
        directory=Path("/a,b"),
        disk=FULL.disk,
        firmware=FULL.firmware,
        uuid=UUID,
    )
    with pytest.raises(InputError) as refused:
        qemu_arguments(config)
    assert str(refused.value) == "the path '/a,b/agent.sock' holds a comma or a line break"


def test_the_host_is_reached_by_nothing_but_the_named_ports() -> None:
    network = next(word for word in qemu_arguments(PLAIN_ARM) if word.startswith("user,"))
    assert network == "user,id=net,restrict=on,ipv6=off"


def _readable(words: list[str]) -> str:
    """One option per line, with its value."""
    lines: list[str] = []
    for word in words:
        if word.startswith("-") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines) + "\n"
