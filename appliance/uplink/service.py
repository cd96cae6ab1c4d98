"""edgeseal-uplink: takes messages in at a socket, keeps them until the broker has them."""

from __future__ import annotations

import collections
import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.audit_event import AUDIT_SOCKET
from appliance.formats.device import DEVICE_CONFIG_PATH, UplinkConfig
from appliance.formats.identities import ROOT_UID, USERS
from appliance.formats.uplink_message import MAX_PACKET, Refused, UplinkAnswer, encode_uplink_message
from appliance.machine.audit_client import AuditClient
from appliance.machine.config import load_device_config
from appliance.machine.credentials import Credentials
from appliance.machine.entry import StopFlag
from appliance.machine.notify import Notifier, say
from appliance.machine.packets import Connection, PacketServer, passed_socket
from appliance.uplink.desk import Desk
from appliance.uplink.outbox import Outbox
from appliance.uplink.transport import Acknowledged, Broker, Connected, Lost, Outgoing, Transport, TransportEvent
from appliance.uplink.window import Window

SERVICE = "edgeseal-uplink"
ROUND_S = 5.0


@dataclass(frozen=True)
class Settings:
    """Where things are and who may do what; a test has its own."""

    config: Path = Path(DEVICE_CONFIG_PATH)
    spool: Path = Path("/var/lib/edgeseal-uplink/spool.sqlite")
    audit_socket: str = AUDIT_SOCKET
    publishers: frozenset[int] = frozenset({USERS["edgeseal-inference"]})
    reporters: frozenset[int] = frozenset({USERS["edgeseal-update"]})
    readers: frozenset[int] = frozenset({ROOT_UID, *USERS.values()})


def serve(settings: Settings = Settings()) -> None:
    """Run until SIGTERM. Raises EdgesealError."""
    stop = StopFlag()
    notifier = Notifier.from_environment()
    config = load_device_config(settings.config).uplink
    broker = _broker(Credentials.from_environment(), config)
    uplink = Uplink(settings, config, broker, passed_socket())
    uplink.watch(stop)
    notifier.ready("spooling")
    uplink.started()
    while not stop:
        uplink.round(ROUND_S)
        notifier.alive(uplink.status)
    notifier.stopping()
    uplink.stop()


def _broker(credentials: Credentials, config: UplinkConfig) -> Broker:
    port = credentials.text("broker-port")
    if not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise DecodeError(f"credential edgeseal.broker-port: `{port}` is not a port", hint="1 to 65535")
    return Broker(
        host=credentials.text("broker-host"),
        port=int(port),
        ca=credentials.path("broker-ca"),
        certificate=credentials.path("client-certificate"),
        key=credentials.path("client-key"),
        device=credentials.device_id(),
        keepalive_s=config.keepalive_s,
    )


class Uplink:
    """Everything of the service, driven round by round from one thread."""

    def __init__(self, settings: Settings, config: UplinkConfig, broker: Broker, listener: socket.socket) -> None:
        self._config = config
        self._broker = broker
        self._audit = AuditClient(settings.audit_socket)
        self._outbox = Outbox(settings.spool, budget=config.spool_bytes)
        self._desk = Desk(
            self._outbox,
            device=broker.device,
            publishers=settings.publishers,
            reporters=settings.reporters,
            readers=settings.readers,
        )
        self._window = Window()
        self._connection = 0
        self._told: set[tuple[object, ...]] = set()
        self._events: collections.deque[TransportEvent] = collections.deque()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._server = PacketServer(listener, max_packet=MAX_PACKET)
        self._server.watch(self._wake_reader.fileno(), self._drain_wake)
        self._transport = Transport(broker, self._report)

    def watch(self, stop: StopFlag) -> None:
        """End a round at the stop signal."""
        self._server.watch(stop.fileno(), stop.drain)

    def started(self) -> None:
        """Say that the service is there, and begin to connect."""
        if self._outbox.replaced is not None:
            self._audit.try_record("spool-replaced", "failure", reason=self._outbox.replaced[:1024])
        self._audit.try_record("service-started", service=SERVICE)
        say(f"<6>spool {self._outbox.epoch} holds {self._outbox.rows} messages")
        self._transport.start()

    def round(self, timeout: float) -> None:
        """One group commit: requests in, acknowledgements out, all with one fsync, then the answers.

        Raises EdgesealError when the transport has died, which only a bug can do: systemd starts us anew.
        """
        packets = self._server.round(timeout)
        answers: list[tuple[Connection, UplinkAnswer]] = []
        for packet in packets:
            answers.append((packet.connection, self._desk.take(packet.connection.peer.uid, packet.data)))
        lost = self._take_events()
        self._outbox.commit()
        for connection, answer in answers:
            self._server.answer(connection, encode_uplink_message(answer))
        if not self._transport.alive:
            raise EdgesealError("the transport has died")
        self._fill_window()
        self._tell(answers, lost)

    @property
    def status(self) -> str:
        """One line for people."""
        state = "connected" if self._desk.connected else "no broker"
        return f"{state}, {self._outbox.rows} spooled, {self._desk.acknowledged} acknowledged"

    def stop(self) -> None:
        """Finish what was handed in, hang up, close."""
        self.round(0)
        self._transport.stop()
        self._take_events()
        self._outbox.commit()
        self._audit.try_record("service-stopped", service=SERVICE, reason="asked to")
        self._server.close()
        self._outbox.close()

    def _report(self, event: TransportEvent) -> None:
        """Called in the transport's thread."""
        self._events.append(event)
        with contextlib.suppress(BlockingIOError):
            self._wake_writer.send(b"w")

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_reader.recv(4096)

    def _take_events(self) -> list[Connected | Lost]:
        changes: list[Connected | Lost] = []
        gone = []
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Acknowledged):
                self._window.acknowledged(event.sequence)
                gone.append(event.sequence)
            else:
                self._change(event)
                changes.append(event)
        self._desk.acknowledged += len(gone)
        if gone:
            self._outbox.remove(gone)
        return changes

    def _change(self, event: Connected | Lost) -> None:
        self._connection = event.connection
        self._desk.connected = isinstance(event, Connected)
        if isinstance(event, Connected):
            self._window.opened(min(event.receive_maximum, self._config.receive_maximum))
        else:
            self._window.lost()

    def _fill_window(self) -> None:
        if self._window.room == 0:
            return
        messages = self._outbox.after(self._window.last_sent, limit=self._window.room)
        for message in messages:
            identity = (
                ("device", self._broker.device),
                ("epoch", self._outbox.epoch),
                ("sequence", str(message.sequence)),
            )
            topic = f"{self._config.topic}/{self._broker.device}/{message.kind}"
            self._transport.publish(self._connection, Outgoing(message.sequence, topic, message.payload, identity))
            self._window.sent(message.sequence)
        if messages:
            self._transport.flush()

    def _tell(self, answers: list[tuple[Connection, UplinkAnswer]], changes: list[Connected | Lost]) -> None:
        """Audit what a person has to know, each state once until it changes."""
        where = f"{self._broker.host}:{self._broker.port}"
        for change in changes:
            if isinstance(change, Connected):
                self._told = {told for told in self._told if told[0] not in ("lost", "full")}
                self._audit.try_record("broker-connected", broker=where)
            else:
                say(f"<4>no broker: {change.reason}")
                self._once("lost", change.reason, kind="broker-lost", broker=where, reason=change.reason[:1024])
        for connection, answer in answers:
            if isinstance(answer, Refused):
                self._tell_refusal(connection.peer.uid, answer)

    def _tell_refusal(self, uid: int, answer: Refused) -> None:
        if answer.reason == "full":
            self._once("full", kind="spool-full", bytes=self._outbox.used)
        else:
            self._once("refused", uid, answer.reason, kind="uplink-refused", uid=uid, reason=answer.detail[:1024])

    def _once(self, *key: object, kind: str, **fields: str | int) -> None:
        if key not in self._told:
            self._told.add(key)
            self._audit.try_record(kind, "failure", **fields)
