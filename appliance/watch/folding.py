"""Not the same thing a thousand times: what is told, and what is counted. Pure: time is given."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from appliance.formats.audit_event import AuditEvent

BURST = 20
REFILL_US = 3_000_000  # one more of a kind every three seconds
TELL_US = 60_000_000
SEEN = 4096


@dataclass
class _Kind:
    tokens: float = BURST
    at_us: int = 0
    untold: int = 0
    since_us: int = 0


@dataclass
class Folding:
    """Each kind of event has a bucket; what is over is counted and told once a minute."""

    kinds: dict[str, _Kind] = field(default_factory=dict)
    seen: OrderedDict[tuple[int, int], None] = field(default_factory=OrderedDict)

    def is_new(self, kind: int, serial: int) -> bool:
        """The same record may come by netlink and in the kernel's log."""
        if (kind, serial) in self.seen:
            return False
        self.seen[kind, serial] = None
        if len(self.seen) > SEEN:
            self.seen.popitem(last=False)
        return True

    def admit(self, event: AuditEvent, now_us: int) -> bool:
        """Whether to tell it; if not, it is counted."""
        kind = self.kinds.setdefault(event.kind, _Kind(at_us=now_us))
        kind.tokens = min(float(BURST), kind.tokens + (now_us - kind.at_us) / REFILL_US)
        kind.at_us = now_us
        if kind.tokens >= 1:
            kind.tokens -= 1
            return True
        kind.untold += 1
        kind.since_us = kind.since_us or now_us
        return False

    def counted(self, now_us: int, *, at_once: bool = False) -> list[AuditEvent]:
        """What was not told one by one, when its time has come."""
        found = []
        for name, kind in self.kinds.items():
            if kind.untold and (at_once or now_us - kind.since_us >= TELL_US):
                fields: dict[str, str | int | bool] = {"event": name, "count": kind.untold}
                found.append(AuditEvent(kind="intake-suppressed", result="failure", fields=fields))
                kind.untold = kind.since_us = 0
        return found
