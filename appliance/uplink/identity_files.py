"""Our certificates on the data partition: every step is one durable write or rename, so a power cut does no harm.

present.pem   key and chain that brokers take
next.key      our next key; its certificate was asked for
next.pem      key and chain as the site answered; no broker has seen it yet
renewed.json  when present.pem came, in the device's own time

One file holds key and chain, so there is no moment in which they do not belong together.
"""

from __future__ import annotations

from pathlib import Path

from appliance.core.clock import Moment
from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import DecodeError
from appliance.formats.identity_state import RenewedAt, decode_renewed_at, encode_renewed_at

_MODE = 0o600


class IdentityFiles:
    """The directory, made when it is missing. Every method but the properties raises OSError: a disk may be full."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory

    @property
    def present(self) -> Path:
        """What brokers take; may be missing."""
        return self._directory / "present.pem"

    @property
    def next(self) -> Path:
        """What is to be tried; may be missing."""
        return self._directory / "next.pem"

    @property
    def renewed(self) -> RenewedAt | None:
        """When `present` came; None when that is not known."""
        try:
            return decode_renewed_at((self._directory / "renewed.json").read_bytes())
        except (OSError, DecodeError):
            return None

    def next_key(self) -> bytes | None:
        """The key whose certificate was asked for."""
        path = self._directory / "next.key"
        return path.read_bytes() if path.exists() else None

    def keep_key(self, key: bytes) -> None:
        """Before anybody hears of it."""
        write_durable(self._directory / "next.key", key, mode=_MODE)

    def keep_answer(self, key: bytes, chain: bytes) -> None:
        """An answer, beside what is in use."""
        write_durable(self.next, key + chain, mode=_MODE)

    def promote(self, now: Moment) -> None:
        """`next` is what brokers take."""
        renewed = RenewedAt(now.boot_id, now.monotonic_us)
        write_durable(self._directory / "renewed.json", encode_renewed_at(renewed))
        self.next.replace(self.present)
        fsync_directory(self._directory)
        self.forget_key()

    def reject(self) -> None:
        """`next` is of no use, and its key neither."""
        self.next.unlink(missing_ok=True)
        fsync_directory(self._directory)
        self.forget_key()

    def forget_key(self) -> None:
        """There is nothing that was asked for."""
        (self._directory / "next.key").unlink(missing_ok=True)
        fsync_directory(self._directory)
