"""edgeseal-watch: reads what the kernel says and tells the audit log what matters of it. See docs/adr/0029."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.core.clock import Clock
from appliance.formats.audit_event import AUDIT_SOCKET, AuditEvent
from appliance.machine.audit_client import AuditClient
from appliance.machine.clock import system_clock
from appliance.machine.entry import StopFlag
from appliance.machine.notify import Notifier
from appliance.watch.folding import Folding
from appliance.watch.meaning import event_of_message, event_of_record
from appliance.watch.messages import Message, record_in
from appliance.watch.records import Record
from appliance.watch.sources import AuditRecords, KernelLog, Lost

SERVICE = "edgeseal-watch"
ROUND_S = 5.0
Source = AuditRecords | KernelLog
Tell = Callable[[AuditEvent], None]


@dataclass(frozen=True)
class Settings:
    """Where things are; a test has its own."""

    audit_socket: str = AUDIT_SOCKET
    kernel_log: Path = Path("/dev/kmsg")
    position: Path = Path("/run/edgeseal-watch/position")


class Watch:
    """What was read becomes events."""

    def __init__(self, tell: Tell, clock: Clock) -> None:
        self._tell = tell
        self._clock = clock
        self._folding = Folding()
        self.read = 0
        self.told = 0

    def take(self, items: Iterable[Record | Message | Lost]) -> None:
        """From one source, in order."""
        for item in items:
            self.read += 1
            event = self._event(item)
            if event is not None and self._folding.admit(event, self._clock().monotonic_us):
                self._say(event)

    def tell_counted(self, *, at_once: bool = False) -> None:
        """What was folded, when it is time."""
        for event in self._folding.counted(self._clock().monotonic_us, at_once=at_once):
            self._say(event)

    @property
    def status(self) -> str:
        """One line for people."""
        return f"{self.read} records read, {self.told} told"

    def _event(self, item: Record | Message | Lost) -> AuditEvent | None:
        if isinstance(item, Lost):
            return AuditEvent(
                kind="intake-lost",
                result="failure",
                fields={"source": item.source, "count": min(item.count, 2**53 - 1)},
            )
        if isinstance(item, Record):
            return event_of_record(item) if self._folding.is_new(item.kind, item.serial) else None
        if not item.from_kernel:
            return None
        record = record_in(item)
        return event_of_message(item.text) if record is None else self._event(record)

    def _say(self, event: AuditEvent) -> None:
        self.told += 1
        self._tell(event)


def serve(settings: Settings = Settings()) -> None:
    """Run until SIGTERM."""
    stop = StopFlag()
    notifier = Notifier.from_environment()
    audit = AuditClient(settings.audit_socket)

    def tell(event: AuditEvent) -> None:
        audit.try_record(event.kind, event.result, **event.fields)

    watch = Watch(tell, system_clock())
    selector = selectors.DefaultSelector()
    selector.register(stop, selectors.EVENT_READ, None)
    for name, make in (
        (KernelLog.name, lambda: KernelLog(settings.kernel_log, settings.position)),
        (AuditRecords.name, AuditRecords),
    ):
        source = _open(name, make, tell)
        if source is not None:
            selector.register(source, selectors.EVENT_READ, source)
    audit.try_record("service-started", service=SERVICE)
    notifier.ready(watch.status)
    while not stop:
        for key, _ in selector.select(ROUND_S):
            if key.data is not None:
                watch.take(key.data.read())
        watch.tell_counted()
        notifier.alive(watch.status)
    notifier.stopping()
    watch.tell_counted(at_once=True)
    audit.try_record("service-stopped", service=SERVICE, reason="asked to")
    audit.close()


def _open(name: str, make: Callable[[], Source], tell: Tell) -> Source | None:
    """A source that cannot be read is told of; the other one goes on."""
    try:
        return make()
    except OSError as error:
        fields: dict[str, str | int | bool] = {"source": name, "reason": str(error)[:1024]}
        tell(AuditEvent(kind="intake-unavailable", result="failure", fields=fields))
        return None
