"""edgeseal-audit: the audit log's single writer. Spec: docs/specs/audit-event.md (v1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.audit.log_file import LogFile
from appliance.audit.writer import Submission, Writer
from appliance.formats.audit_event import MAX_EVENT_BYTES, encode_audit_answer
from appliance.formats.audit_log import Sender
from appliance.formats.device import DEVICE_CONFIG_PATH
from appliance.machine.clock import system_clock
from appliance.machine.config import load_device_config
from appliance.machine.entry import StopFlag
from appliance.machine.notify import Notifier, say
from appliance.machine.packets import Packet, PacketServer, passed_socket

UNIT = "edgeseal-audit.service"
ROUND_S = 5.0  # how often the watchdog is fed at least


@dataclass(frozen=True)
class Paths:
    """Where things are; a test has its own."""

    config: Path = Path(DEVICE_CONFIG_PATH)
    log: Path = Path("/var/lib/edgeseal-audit/log")


def serve(paths: Paths = Paths()) -> None:
    """Run until SIGTERM. Raises EdgesealError."""
    stop = StopFlag()
    notifier = Notifier.from_environment()
    config = load_device_config(paths.config)
    listener = passed_socket()
    writer = Writer(LogFile(paths.log), system_clock(), budget=config.audit.log_bytes, unit=UNIT)
    writer.start(config)
    server = PacketServer(listener, max_packet=MAX_EVENT_BYTES)
    server.watch(stop.fileno(), stop.drain)
    notifier.ready(writer.status)
    say(f"<6>log opened: {writer.status}")
    while not stop:
        _round(server, writer)
        notifier.alive(writer.status)
    notifier.stopping()
    _finish(server, writer)


def _round(server: PacketServer, writer: Writer) -> None:
    packets = server.round(ROUND_S)
    if packets:
        _answer(server, writer, packets)


def _answer(server: PacketServer, writer: Writer, packets: list[Packet]) -> None:
    answers = writer.take([Submission(_sender(packet), packet.data) for packet in packets])
    for packet, answer in zip(packets, answers, strict=True):
        server.answer(packet.connection, encode_audit_answer(answer))


def _sender(packet: Packet) -> Sender:
    peer = packet.connection.peer
    return Sender(uid=peer.uid, pid=peer.pid, unit=peer.unit)


def _finish(server: PacketServer, writer: Writer) -> None:
    """Take what was already sent, then end the log."""
    packets = server.round(0)
    if packets:
        _answer(server, writer, packets)
    writer.stop()
    server.close()
