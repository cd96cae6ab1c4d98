"""Renews our certificate over the broker: asks, checks the answer, tries it, and goes back when it does not work.

Why a topic and not EST: docs/adr/0026-certificate-renewal.md. Messages: docs/specs/certificate-renewal.md (v1).

The site's provisioning gives a first certificate and its key. On the first connection we ask for one with a key that we
made ourselves and that never leaves the data partition. Later: when so much of its life has passed, by a time that is
known; without one, at the first connection of each boot and after each week of running.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.certificate_message import (
    CertificateRequest,
    decode_certificate_answer,
    encode_certificate_request,
)
from appliance.machine.notify import say
from appliance.uplink.certificate import CLIENT_AUTH, Facts, pem_block, pem_certificates, read_certificate
from appliance.uplink.events import Lost
from appliance.uplink.identity_files import IdentityFiles
from appliance.uplink.identity_maker import PRIVATE, PUBLIC, REQUEST, IdentityMaker, part_of, pem_of
from appliance.uplink.rehearsal import rehearse
from appliance.uplink.tls import Identity

WITHOUT_CLOCK_S: Final = 7 * 86_400
ASK_AGAIN_S: Final = 6 * 3600
STRIKES: Final = 3
MAX_CHAIN: Final = 4
_LONGEST_LIFE_S: Final = 10 * 366 * 86_400
_SKEW_S: Final = 86_400


@dataclass(frozen=True)
class Notice:
    """For the audit log."""

    kind: str
    failed: bool
    fields: dict[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Us:
    """device: our common name. ca: who certifies brokers and devices. bootstrap: what the site provisioned."""

    device: str
    ca: Path
    bootstrap: Identity
    renew_percent: int


class Renewer:
    """Used by the service's thread; identity() and lost() by the transport's. notice() is told what happens.

    A partition that cannot be written is told and costs nothing but the renewal. Only the constructor raises: OSError.
    """

    def __init__(
        self, directory: Path, us: Us, notice: Callable[[Notice], None], *, maker: IdentityMaker | None = None
    ) -> None:
        self._us = us
        self._notice = notice
        self._maker = IdentityMaker() if maker is None else maker
        self._lock = threading.Lock()  # owns what follows
        self._files = IdentityFiles(directory)
        self._choice = 0
        self._tried: Identity | None = None
        self._ended: collections.deque[Identity | None] = collections.deque()
        self._ups = self._downs = 0
        self._strikes = 0
        self._asked_us: int | None = None
        self._tidy()

    def identity(self) -> Identity:
        """With what the next connection is made: the new one, then the present one, then the site's first.

        The next in this order is taken when the one before was not accepted.
        """
        with self._lock:
            choices = self._choices()
            self._tried = choices[self._choice % len(choices)]
            return self._tried

    def connected(self, now: Moment) -> None:
        """A broker took what identity() gave for this connection; call it for each Connected, in order."""
        with self._lock:
            self._ups += 1
            used, self._choice = self._ended.popleft() if self._ended else self._tried, 0
            if used is None or not self._files.next.exists():
                return
            try:
                if used.certificate == self._files.next:
                    self._promote(now)
                else:
                    self._strike()
            except OSError as error:
                self._tell("certificate-refused", True, reason=_unwritable(error))

    def lost(self, event: Lost) -> None:
        """A connection ended, or did not come about; when that was about our certificate, try the next one we have.

        Call it in the transport's thread, so that it comes before the next identity().
        """
        with self._lock:
            self._choice += event.ours
            self._downs += event.connected
            if self._downs > self._ups:  # the service has not come to its Connected yet
                self._ended.append(self._tried)

    def request(self, now: Moment) -> bytes | None:
        """The message to publish as certificate request, when it is time; call it often while connected.

        A key is made beside the service, so the answer to the first calls is None.
        """
        with self._lock:
            if not self._why(now) or self._files.next.exists():
                return None
            if self._asked_us is not None and now.monotonic_us - self._asked_us < ASK_AGAIN_S * 1_000_000:
                return None
            try:
                key = self._key()
            except (EdgesealError, OSError) as error:
                self._asked_us = now.monotonic_us
                reason = _unwritable(error) if isinstance(error, OSError) else error.message
                self._tell("certificate-refused", True, reason=reason[:1024])
                return None
            if key is None:
                return None
            self._asked_us = now.monotonic_us
            say(f"<6>a certificate was asked for: {self._why(now)}")
            csr = pem_of(key, REQUEST).decode("ascii")
            return encode_certificate_request(CertificateRequest(device=self._us.device, csr=csr))

    def heard(self, data: bytes, now: Moment) -> bool:
        """The site's answer, not trusted; True when it is worth a new connection, made with it.

        Answers are retained, so the last one comes again with each connection: what is not for our key is passed over.
        """
        with self._lock:
            key = self._files.next_key()
            try:
                chain = self._checked(data, key, now)
                if key is None or chain is None or self._files.next.exists():
                    return False
                self._files.keep_answer(pem_of(key, PRIVATE), chain)
                rehearse(
                    Identity(self._files.next, self._files.next), self._us.ca, check_times=now.quality != "unknown"
                )
            except (DecodeError, VerificationError) as error:
                self._files.next.unlink(missing_ok=True)
                self._tell("certificate-refused", True, reason=error.message[:1024])
                return False
            except OSError as error:
                self._tell("certificate-refused", True, reason=_unwritable(error))
                return False
            return True

    def _promote(self, now: Moment) -> None:
        facts = _facts_of(self._files.next)
        self._files.promote(now)
        self._strikes = 0
        self._asked_us = None
        self._tell("certificate-renewed", False, not_after=facts.not_after if facts else 0)

    def _strike(self) -> None:
        """The old one works and the new one did not."""
        self._strikes += 1
        if self._strikes >= STRIKES:
            self._files.reject()
            self._strikes = 0
            self._tell("certificate-rejected", True, reason=f"no broker took it in {STRIKES} attempts")

    def _key(self) -> bytes | None:
        key = self._files.next_key()
        if key is None and (key := self._maker.take(self._us.device)) is not None:
            self._files.keep_key(key)
        return key

    def _checked(self, data: bytes, key: bytes | None, now: Moment) -> bytes | None:
        answer = decode_certificate_answer(data)
        if answer.device != self._us.device:
            raise VerificationError(f"the answer is for {answer.device!r}, this device is {self._us.device!r}")
        certificates = pem_certificates(answer.certificates.encode())
        if len(certificates) > MAX_CHAIN:
            raise VerificationError(f"the answer has {len(certificates)} certificates, at most {MAX_CHAIN}")
        facts = read_certificate(certificates[0])
        if key is None or facts.public_key != part_of(key, PUBLIC):
            return None
        self._check_facts(facts, now)
        return b"".join(pem_block(certificate, "CERTIFICATE") for certificate in certificates)

    def _check_facts(self, facts: Facts, now: Moment) -> None:
        if facts.common_name != self._us.device:
            raise VerificationError(f"the certificate is for {facts.common_name!r}, this device is {self._us.device!r}")
        if facts.usages is None or CLIENT_AUTH not in facts.usages:
            raise VerificationError("the certificate is not for clients (clientAuth)")
        if not 0 < facts.not_after - facts.not_before <= _LONGEST_LIFE_S:
            raise VerificationError(f"the certificate is valid for {facts.not_after - facts.not_before} s")
        if now.quality == "unknown":
            return
        wall_s = now.wall_us // 1_000_000
        if not facts.not_before - _SKEW_S <= wall_s <= facts.not_after:
            raise VerificationError("the certificate is not valid now")

    def _why(self, now: Moment) -> str:
        facts = _facts_of(self._files.present)
        if facts is None:
            return "the first with a key of our own"
        if now.quality != "unknown":
            passed = now.wall_us // 1_000_000 - facts.not_before
            life = facts.not_after - facts.not_before
            return f"{self._us.renew_percent} % of its life" if passed * 100 >= life * self._us.renew_percent else ""
        renewed = self._files.renewed
        if renewed is None or renewed.boot_id != now.boot_id:
            return "a new boot, and nobody knows the time"
        running = now.monotonic_us - renewed.monotonic_us >= WITHOUT_CLOCK_S * 1_000_000
        return "a week, and nobody knows the time" if running else ""

    def _choices(self) -> list[Identity]:
        ours = [Identity(path, path) for path in (self._files.next, self._files.present) if path.exists()]
        return [*ours, self._us.bootstrap]

    def _tidy(self) -> None:
        """After a power cut a key may be left whose certificate is in use, or a certificate that was not tried on."""
        key, facts = self._files.next_key(), _facts_of(self._files.present)
        if key is not None and facts is not None and facts.public_key == part_of(key, PUBLIC):
            self._files.forget_key()
        if self._files.next.exists():
            try:
                rehearse(Identity(self._files.next, self._files.next), self._us.ca, check_times=False)
            except EdgesealError:
                self._files.next.unlink()

    def _tell(self, kind: str, failed: bool, **fields: str | int) -> None:
        self._notice(Notice(kind, failed, fields))


def _unwritable(error: OSError) -> str:
    return f"the data partition cannot be written: {error.strerror or error}"


def _facts_of(path: Path) -> Facts | None:
    try:
        return read_certificate(pem_certificates(path.read_bytes())[0])
    except (OSError, DecodeError):
        return None
