"""edgeseal-uplink: takes messages in at a socket, keeps them until they are delivered."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from appliance.core.clock import Clock
from appliance.formats.audit_event import AUDIT_SOCKET
from appliance.formats.device import DEVICE_CONFIG_PATH
from appliance.formats.identities import ROOT_UID, USERS
from appliance.machine.audit_client import AuditClient
from appliance.machine.clock import system_clock
from appliance.machine.config import load_device_config
from appliance.machine.credentials import Credentials
from appliance.machine.entry import StopFlag
from appliance.machine.notify import Notifier
from appliance.machine.packets import passed_socket
from appliance.uplink.brokers import FIRST_PAUSE_S
from appliance.uplink.site import read_site
from appliance.uplink.teller import Teller
from appliance.uplink.uplink import Uplink

SERVICE = "edgeseal-uplink"
ROUND_S = 5.0


@dataclass(frozen=True)
class Settings:
    """Where things are and who may hand in what; a test has its own.

    publishers: verdicts; reporters: reports of updates; alarmers: alarms; auditors: parts of the audit log; readers:
    may ask for the status. first_pause_s: of the connection to the broker.
    """

    config: Path = Path(DEVICE_CONFIG_PATH)
    spool: Path = Path("/var/lib/edgeseal-uplink/outbox.sqlite")
    old_spool: Path = Path("/var/lib/edgeseal-uplink/spool.sqlite")
    audit_socket: str = AUDIT_SOCKET
    publishers: frozenset[int] = frozenset({USERS["edgeseal-inference"]})
    reporters: frozenset[int] = frozenset({USERS["edgeseal-update"]})
    alarmers: frozenset[int] = frozenset(
        {ROOT_UID, USERS["edgeseal-inference"], USERS["edgeseal-update"], USERS["edgeseal-network"]}
    )
    auditors: frozenset[int] = frozenset({USERS["edgeseal-audit"]})
    readers: frozenset[int] = frozenset({ROOT_UID, *USERS.values()})
    first_pause_s: float = FIRST_PAUSE_S

    @property
    def senders(self) -> dict[str, frozenset[int]]:
        """By kind of message."""
        return {
            "verdict": self.publishers,
            "update": self.reporters,
            "alarm": self.alarmers,
            "audit": self.auditors,
        }


def serve(settings: Settings = Settings()) -> None:
    """Run until SIGTERM. Raises EdgesealError."""
    stop = StopFlag()
    notifier = Notifier.from_environment()
    uplink = make_uplink(settings, passed_socket(), system_clock())
    uplink.watch(stop)
    notifier.ready("spooling")
    uplink.started()
    while not stop:
        uplink.round(ROUND_S)
        notifier.alive(uplink.line)
    notifier.stopping()
    uplink.stop()


def make_uplink(settings: Settings, listener: socket.socket, clock: Clock) -> Uplink:
    """All parts, as the profile and the site want them. Raises EdgesealError."""
    config = load_device_config(settings.config).uplink
    return Uplink(
        read_site(Credentials.from_environment(), config),
        config,
        listener,
        spool=settings.spool,
        old_spool=settings.old_spool,
        senders=settings.senders,
        readers=settings.readers,
        teller=Teller(AuditClient(settings.audit_socket)),
        clock=clock,
        first_pause_s=settings.first_pause_s,
    )
