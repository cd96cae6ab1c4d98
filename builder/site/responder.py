"""Listens at the broker for devices that ask for a certificate, and answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from appliance.core.errors import EdgesealError
from appliance.formats.certificate_message import CertificateAnswer, encode_certificate_answer
from builder.site.authority import SiteAuthority
from builder.site.certificates import Wanted
from builder.site.requests import Rules
from builder.uplink.subscriber import Access, Subscriber
from builder.uplink.watch import Heard


@dataclass(frozen=True)
class Outcome:
    """One request. reason: why there is no certificate; None when it was answered."""

    topic: str
    device: str | None
    reason: str | None


class Responder:
    """Answers requests, each at once. now: the time of day, with a time zone; asked for each certificate."""

    def __init__(
        self, authority: SiteAuthority, access: Access, *, now: Callable[[], datetime], tell: Callable[[Outcome], None]
    ) -> None:
        """tell: called for each request, answered or refused."""
        self._authority = authority
        self._now = now
        self._tell = tell
        self._rules = Rules()
        self._waiting: list[Heard] = []
        self._subscriber = Subscriber(access, self._waiting.append)

    def connect(self) -> None:
        """Raises EdgesealError."""
        self._subscriber.connect()

    @property
    def listens(self) -> bool:
        """The broker passes requests on to us."""
        return self._subscriber.listens

    def step(self) -> None:
        """Listen for a moment and answer what came. Raises EdgesealError when the broker refuses us."""
        self._subscriber.step()
        answers = [answer for heard in self._waiting if (answer := self._answer(heard)) is not None]
        self._waiting.clear()
        self._subscriber.say(answers, retain=True)  # a device that is off finds it when it comes back
        self._subscriber.acknowledge()

    def close(self) -> None:
        """Hang up."""
        self._subscriber.close()

    def _answer(self, heard: Heard) -> tuple[str, bytes] | None:
        try:
            approved = self._rules.judge(
                heard.topic, heard.payload, devices=self._authority.devices(), now_s=time.monotonic()
            )
            wanted = Wanted(approved.device, "client", approved.spki, self._authority.days, x509.random_serial_number())
            certificate = self._authority.certify(wanted, self._now())
        except EdgesealError as error:
            self._tell(Outcome(heard.topic, None, error.message))
            return None
        self._tell(Outcome(heard.topic, approved.device, None))
        answer = CertificateAnswer(device=approved.device, certificates=certificate.decode("ascii"))
        return approved.topic, encode_certificate_answer(answer)
