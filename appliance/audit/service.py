"""edgeseal-audit: the audit log's single writer. Specs: docs/specs/audit-event.md, docs/specs/audit-log.md (v2)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from appliance.audit import facts
from appliance.audit.anchor import Anchor, Found
from appliance.audit.group import Group
from appliance.audit.limits import Limits
from appliance.audit.opening import Opened, Places, open_log
from appliance.audit.parts import Parts
from appliance.audit.retention import Retention
from appliance.audit.session import Anchoring, Session
from appliance.audit.signing import Signing, TpmSigner
from appliance.audit.teller import Teller
from appliance.audit.vkeys import export_vkeys
from appliance.audit.writer import Writer
from appliance.core.clock import Clock
from appliance.core.errors import EdgesealError
from appliance.formats.audit_event import MAX_EVENT_BYTES, AuditEvent
from appliance.formats.audit_log import Sender
from appliance.formats.device import DEVICE_CONFIG_PATH, DeviceConfig
from appliance.formats.uplink_message import UPLINK_SOCKET
from appliance.machine.clock import system_clock
from appliance.machine.config import load_device_config
from appliance.machine.credentials import Credentials
from appliance.machine.entry import StopFlag
from appliance.machine.notify import Notifier, say
from appliance.machine.packets import PacketServer, passed_socket
from appliance.machine.tpm import TPM_DEVICE, Tpm, open_tpm

UNIT = "edgeseal-audit.service"
UNNAMED = "unnamed"
"""Of a device that the site has not named yet. With its name it begins a new log."""
ROUND_S = 1.0  # how often time is looked at
AGAIN_S = 1.0
PER_USER = 16  # connections, so that one service does not take them all


def _credentials() -> Path | None:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return None if directory is None else Path(directory)


@dataclass(frozen=True)
class Settings:
    """Where things are; a test has its own."""

    config: Path = Path(DEVICE_CONFIG_PATH)
    places: Places = field(default_factory=Places)
    system: facts.System = field(default_factory=facts.System)
    tpm: Path = TPM_DEVICE
    uplink_socket: str = UPLINK_SOCKET
    halt: Path = Path("/run/edgeseal-audit-state/halt")
    publish_us: int = 1_000_000  # between two states of the public directory
    credentials: Path | None = field(default_factory=_credentials)


def serve(settings: Settings = Settings()) -> None:
    """Run until SIGTERM. After a failed write the log is opened again, which tells what is durable."""
    stop = StopFlag()
    notifier = Notifier.from_environment()
    service = Service(settings, stop, notifier, system_clock(), passed_socket())
    degraded = ""
    while not stop:
        try:
            service.run(degraded)
        except OSError as error:
            degraded = f"it could not be written: {error.strerror}"
            say(f"<3>{degraded}; it is opened again")
            service.retention.disk_full()
            stop.wait(AGAIN_S)
    service.teller.stop(2.0)


class Service:
    """What outlives one opening of the log."""

    def __init__(
        self, settings: Settings, stop: StopFlag, notifier: Notifier, clock: Clock, listener: socket.socket
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._notifier = notifier
        self._clock = clock
        self._listener = listener
        self._config: DeviceConfig = load_device_config(settings.config)
        self._device = _device(settings.credentials)
        self._tpm, self._no_tpm = _tpm(settings.tpm)
        audit = self._config.audit
        self._limits = Limits(rate=audit.sender_rate, burst=audit.sender_burst)
        reserve = settings.places.state / "reserve"
        self.retention = Retention(audit, settings.places.log, reserve, settings.halt)
        self.teller = Teller(settings.uplink_socket)

    def run(self, degraded: str) -> None:
        """Open the log and write until the end. Raises OSError, EdgesealError."""
        anchoring, found = self._anchoring()
        opened = open_log(self._settings.places, self._device, self._clock(), found)
        try:
            signing = Signing(opened.keys, self._signer(opened))
            session = self._session(opened, signing, anchoring)
            session.start(degraded)
            export_vkeys(self._settings.places.log, opened.keys, signing.tpm)
            self._listen(session, Parts(self._settings.places.state / "uplink.json", opened.log, self._device))
        finally:
            opened.log.close()

    def _listen(self, session: Session, parts: Parts) -> None:
        server = PacketServer(self._listener, max_packet=MAX_EVENT_BYTES, per_user=PER_USER)
        server.watch(self._stop.fileno(), self._stop.drain)
        self._notifier.ready(session.writer.status)
        say(f"<6>log opened: {session.writer.status}")
        try:
            self._serve(server, session, parts)
        finally:
            server.close()

    def _serve(self, server: PacketServer, session: Session, parts: Parts) -> None:
        group = Group(server, session.writer)
        while not self._stop:
            packets = server.round(group.wait_s(self._clock(), ROUND_S))
            group.take(packets, self._clock())
            if group.settle(self._clock()):
                session.tick()
                self._look_after(session, parts)
            self._notifier.alive(session.writer.status)
        self._notifier.stopping()
        group.take(server.round(0), self._clock())  # what was already sent
        group.settle(self._clock(), at_once=True)
        session.stop()

    def _look_after(self, session: Session, parts: Parts) -> None:
        now = self._clock()
        self.retention.look(session.writer, now, parts.sent)
        self.teller.look(parts, now)

    def _session(self, opened: Opened, signing: Signing, anchoring: Anchoring) -> Session:
        writer = Writer(
            opened.log,
            signing,
            self._clock,
            self._limits,
            me=Sender(uid=os.getuid(), pid=os.getpid(), unit=UNIT),
            boot=opened.boot(self._clock()),
            budget=self.retention.budget,
        )
        return Session(
            opened, writer, signing, anchoring, self._config, self._clock, self._facts, self._settings.publish_us
        )

    def _facts(self) -> list[AuditEvent]:
        settings = self._settings
        return [
            facts.boot_event(settings.system, self._tpm),
            *facts.configuration_events(settings.config, settings.credentials),
        ]

    def _anchoring(self) -> tuple[Anchoring, Found | None]:
        if self._tpm is None:
            return Anchoring(None, self._no_tpm), None
        self._settings.places.state.mkdir(mode=0o700, exist_ok=True)
        anchor = Anchor(self._settings.places.state, self._tpm)
        try:
            return Anchoring(anchor), anchor.look()
        except EdgesealError as error:
            return Anchoring(None, str(error)), None

    def _signer(self, opened: Opened) -> TpmSigner | None:
        if self._tpm is None:
            return None
        try:
            return TpmSigner(self._tpm, opened.keys.origin)
        except EdgesealError as error:
            say(f"<4>the TPM signs no checkpoint: {error}")
            return None


def _tpm(device: Path) -> tuple[Tpm | None, str]:
    """(the TPM, or None and why)."""
    try:
        transmit = open_tpm(device)
    except EdgesealError as error:
        return None, str(error)
    if transmit is None:
        return None, "this machine has no TPM"
    return Tpm(transmit, pause=time.sleep), ""


def _device(credentials: Path | None) -> str:
    if credentials is not None:
        with contextlib.suppress(EdgesealError):
            return Credentials(credentials).device_id()
    return UNNAMED
