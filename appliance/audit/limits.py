"""How much one sender may say. Pure: time is given.

Each sender has two buckets of tokens, one for security events and one for all others, so that its own chatter does not
hide what matters. What is over the rate is counted, never silently dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.formats.audit_log import Sender

MAX_SENDERS = 256  # beyond it the one that was silent for longest is forgotten
TELL_AFTER_US = 1_000_000
"""How long a sender that is over its rate is counted before the log says how often."""


@dataclass
class Bucket:
    """tokens: how many events are free now. at_us: when that was true."""

    tokens: float
    at_us: int

    def take(self, now_us: int, *, rate: int, burst: int) -> bool:
        """Use one token, if there is one."""
        passed = max(0, now_us - self.at_us)
        self.tokens = min(float(burst), self.tokens + passed * rate / 1_000_000)
        self.at_us = now_us
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Account:
    """One sender's buckets, and what was refused since it was last told. since_us: of the first of these."""

    buckets: dict[bool, Bucket]
    suppressed: int = 0
    since_us: int = 0


class Limits:
    """rate: events per second of one sender and kind of bucket, over time; burst: at once."""

    def __init__(self, *, rate: int, burst: int) -> None:
        self._rate = rate
        self._burst = max(burst, 1)
        self._accounts: dict[str, Account] = {}

    def admit(self, sender: Sender, now_us: int, *, security: bool) -> bool:
        """Whether `sender` may say one more; if not, it is counted."""
        name = name_of(sender)
        account = self._accounts.pop(name, None) or Account({})
        self._accounts[name] = account  # the newest is last
        bucket = account.buckets.setdefault(security, Bucket(float(self._burst), now_us))
        if bucket.take(now_us, rate=self._rate, burst=self._burst):
            self._forget()
            return True
        account.suppressed += 1
        account.since_us = account.since_us or now_us
        return False

    def to_tell(self, now_us: int, *, at_once: bool = False) -> list[tuple[str, int]]:
        """(sender, events that were suppressed) for all whose time has come; they count from 0 again."""
        found = []
        for name, account in self._accounts.items():
            if account.suppressed and (at_once or now_us - account.since_us >= TELL_AFTER_US):
                found.append((name, account.suppressed))
                account.suppressed = account.since_us = 0
        return found

    def _forget(self) -> None:
        """What has something to tell is kept."""
        if len(self._accounts) > MAX_SENDERS:
            silent = next((name for name, account in self._accounts.items() if not account.suppressed), None)
            if silent is not None:
                del self._accounts[silent]


def name_of(sender: Sender) -> str:
    """The unit, as the kernel's control groups say; for a process of no unit its user."""
    return sender.unit or f"user {sender.uid}"
