"""QEMU's argument list from a QemuConfig. Pure; tests/unit/data/qemu-*.txt hold it.

`-nodefaults`: a machine has exactly the devices that are named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance.core.errors import InputError
from builder.vm.config import (
    AGENT_PORT_NAME,
    BROKER_ADDRESS,
    BROKER_PORT,
    FRAMES_PORT_NAME,
    MEDIUM_PLACE,
    MEDIUM_SERIAL,
    SHARE_SERIAL,
    GuestService,
    QemuConfig,
)

PROGRAM = {"x86_64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
MACHINE = {"x86_64": "q35,smm=on,vmport=off", "arm64": "virt,gic-version=3"}
# x86_64: TCG emulates fused multiply-add in software, which the runtime would choose: one inference takes 17 s with
# it and 0.8 s without. arm64: the architected pointer authentication costs TCG about half of its speed.
CPU = {"x86_64": "max,avx=off,avx2=off,fma=off", "arm64": "max,pauth-impdef=on"}
TPM_DEVICE = {"x86_64": "tpm-crb", "arm64": "tpm-tis-device"}
# A network card's slot is its place in the profile (udev's ID_PATH pci-0000:00:03.0, …). The first leads to the uplink,
# the second to the cell, where nobody is until a test comes.
NETWORK_CARDS = {
    "x86_64": (("uplink", 3, "52:54:00:ed:6e:5e"), ("cell", 4, "52:54:00:ed:6e:5f")),
    "arm64": (("uplink", 3, "52:54:00:ed:6e:5e"),),
}


def qemu_arguments(config: QemuConfig) -> list[str]:
    """The whole argument list, program first. Raises InputError for a path that QEMU's options cannot hold."""
    return [PROGRAM[config.architecture], *(word for part in _PARTS for word in part(config))]


def _machine(config: QemuConfig) -> Iterator[str]:
    cpu = CPU[config.architecture] if config.accelerator == "tcg" else "host"
    accelerator = "tcg,thread=multi" if config.accelerator == "tcg" else "kvm"
    yield from ("-no-user-config", "-nodefaults", "-display", "none")
    yield from ("-machine", MACHINE[config.architecture], "-accel", accelerator, "-cpu", cpu)
    yield from (
        "-m",
        str(config.memory_mib),
        "-smp",
        str(config.cpus),
        "-uuid",
        config.uuid,
        "-rtc",
        f"base={config.clock}",
    )
    if config.incoming:
        yield from ("-incoming", "defer")


def _firmware(config: QemuConfig) -> Iterator[str]:
    if config.architecture == "x86_64":  # only system management mode may write variables
        yield from ("-global", "driver=cfi.pflash01,property=secure,value=on")
    yield from ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={config.firmware.code}")
    yield from ("-drive", f"if=pflash,unit=1,format=raw,file={_path(config.firmware.variables)}")
    for file in config.credentials:
        yield from ("-smbios", f"type=11,path={_path(file)}")


def _disk(config: QemuConfig) -> Iterator[str]:
    # writeback: what the guest has flushed survives a power cut, what it has not need not
    file = _path(config.disk.path)
    if config.block_log is None:
        yield from ("-drive", f"if=none,id=disk,format={config.disk.format},cache=writeback,discard=unmap,file={file}")
    else:
        below = f"file.driver={config.disk.format},file.file.driver=file,file.file.filename={file}"
        log = f"log.driver=file,log.filename={_path(config.block_log)},log-sector-size=512"
        yield from ("-drive", f"if=none,id=disk,driver=blklogwrites,cache=writeback,discard=unmap,{below},{log}")
    # blklogwrites adds to what it logs: a request that was merged to IOV_MAX pieces would be lost
    merging = "" if config.block_log is None else ",request-merging=off"
    yield from ("-device", f"virtio-blk-pci,drive=disk,bootindex=0,serial=system{merging}")
    if config.share is not None:
        yield from ("-drive", f"if=none,id=share,format=raw,readonly=on,file=fat:16:{_path(config.share)}")
        yield from ("-device", f"virtio-blk-pci,drive=share,serial={SHARE_SERIAL}")
    if config.medium is not None and config.plugged:
        fixed = "off" if config.medium_writable else "on"
        yield from ("-drive", f"if=none,id=medium,format=raw,readonly={fixed},file={_path(config.medium)}")
        yield from ("-device", f"virtio-blk-pci,drive=medium,serial={MEDIUM_SERIAL}")
    elif config.medium is not None:
        yield from ("-device", f"pcie-root-port,id={MEDIUM_PLACE}")


def _tpm(config: QemuConfig) -> Iterator[str]:
    if config.tpm_socket is not None:
        yield from ("-chardev", f"socket,id=tpm,path={_path(config.tpm_socket)}")
        yield from ("-tpmdev", "emulator,id=tpm0,chardev=tpm")
        yield from ("-device", f"{TPM_DEVICE[config.architecture]},tpmdev=tpm0")


def _network(config: QemuConfig) -> Iterator[str]:
    # restrict: nothing leaves the emulator but what is forwarded here
    words = ["user,id=net,restrict=on,ipv6=off"]
    broker = () if config.broker_port is None else (GuestService(BROKER_ADDRESS, BROKER_PORT, config.broker_port),)
    for service in (*broker, *config.services):
        # a program per connection: a character device would be one stream for all of them
        relay = f"socat STDIO TCP4:127.0.0.1:{service.host_port}"
        words.append(f"guestfwd=tcp:{service.address}:{service.port}-cmd:{relay}")
    words += [f"hostfwd=tcp:127.0.0.1:{item.host_port}-:{item.guest_port}" for item in config.host_forwards]
    yield from ("-netdev", ",".join(words))
    yield from ("-netdev", "hubport,id=router,hubid=0,netdev=net")
    for hub, (link, slot, address) in enumerate(NETWORK_CARDS[config.architecture]):
        # a hub: others can be connected while the machine runs
        yield from ("-netdev", f"hubport,id={link},hubid={hub}")
        yield from ("-device", f"virtio-net-pci,netdev={link},mac={address},romfile=,addr={slot}")
    if config.pcap is not None:
        yield from ("-object", f"filter-dump,id=pcap,netdev=net,file={_path(config.pcap)}")


def _ports(config: QemuConfig) -> Iterator[str]:
    yield from ("-device", "virtio-serial-pci")
    for identity, path, name in (
        ("agent", config.agent_socket, AGENT_PORT_NAME),
        ("frames", config.frames_socket, FRAMES_PORT_NAME),
    ):
        yield from ("-chardev", f"socket,id={identity},server=on,wait=off,path={_path(path)}")
        yield from ("-device", f"virtserialport,chardev={identity},name={name}")


def _rest(config: QemuConfig) -> Iterator[str]:
    yield from ("-chardev", f"file,id=console,path={_path(config.console)}", "-serial", "chardev:console")
    yield from ("-chardev", f"socket,id=qmp,server=on,wait=off,path={_path(config.qmp_socket)}")
    yield from ("-mon", "chardev=qmp,mode=control")
    yield from ("-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset")


# The network before everything else on the bus: the others take the slots that are left.
_PARTS = (_machine, _firmware, _network, _disk, _tpm, _ports, _rest)


def _path(path: Path) -> str:
    """A comma ends an option."""
    text = str(path)
    if "," in text or "\n" in text:
        raise InputError(f"the path {text!r} holds a comma or a line break", hint="use another directory")
    return text
