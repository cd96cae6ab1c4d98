"""The security epoch in the TPM: a counter that only rises, whatever becomes of the disk. See docs/adr/0017.

Two indexes of the owner's range. COUNTER counts; a new counter starts above the counters that the TPM had before, so
BASE keeps where it started, is written once and locked. The epoch is the difference. Both can be read, and the counter
raised, by whoever may open the device; nobody can lower it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from appliance.core.errors import EdgesealError
from appliance.machine.tpm import TPM_DEVICE as TPM_DEVICE
from appliance.machine.tpm import Attribute, Index, Pause, Tpm, Transmit, open_tpm

MAX_STEP = 1024  # one write to the TPM's memory each
_COMMON = Attribute.AUTH_WRITE | Attribute.AUTH_READ | Attribute.OWNER_READ | Attribute.NO_LOCKOUT
COUNTER = Index(0x0180_6564, _COMMON | Attribute.COUNTER, 8)
BASE = Index(0x0180_6565, _COMMON | Attribute.WRITE_DEFINE, 8)
_STATE = Attribute.WRITTEN | Attribute.WRITE_LOCKED


class EpochCounter:
    """The security epoch of one TPM."""

    def __init__(self, transmit: Transmit, *, pause: Pause) -> None:
        """transmit: gives the TPM one command and returns its answer. pause: sleeps while the TPM is busy."""
        self._tpm = Tpm(transmit, pause=pause)

    def read(self) -> int:
        """The epoch; 0 as long as it was never raised. Defines nothing. Raises EdgesealError, DecodeError."""
        counter, base = self._find(COUNTER), self._find(BASE)
        if not _is_written(counter) or not _is_written(base):
            return 0
        return self._difference()

    def raise_to(self, epoch: int) -> int:
        """Raise it to `epoch` and return what it is now, which may be more; the first time, define it.

        A power cut in between leaves it somewhere on the way; calling again goes on from there.
        Raises EdgesealError, DecodeError.
        """
        now = self.read()
        if epoch - now > MAX_STEP:
            raise EdgesealError(
                f"the TPM's security epoch is {now}, and {epoch} is more than {MAX_STEP} above it",
                hint="a counter rises one by one: raise the epoch in several releases",
            )
        if now >= epoch:
            return now
        self._prepare()
        while (now := self._difference()) < epoch:  # read each time: an answer may get lost after the deed
            self._tpm.increment(COUNTER.handle)
        return now

    def _prepare(self) -> None:
        """Until BASE is written the counter has not been raised: its value is the base."""
        if self._find(COUNTER) is None:
            self._tpm.define(COUNTER)
        if not _is_written(self._find(COUNTER)):
            self._tpm.increment(COUNTER.handle)
        if self._find(BASE) is None:
            self._tpm.define(BASE)
        base = self._find(BASE)
        if not _is_written(base):
            self._tpm.write(BASE.handle, self._tpm.read(COUNTER.handle, COUNTER.size))
        if base is None or not base.attributes & Attribute.WRITE_LOCKED:
            self._tpm.lock(BASE.handle)

    def _difference(self) -> int:
        count, base = (int.from_bytes(self._tpm.read(index.handle, index.size), "big") for index in (COUNTER, BASE))
        if count < base:
            raise EdgesealError(f"the TPM's counter is {count}, below its base {base}: its memory was tampered with")
        return count - base

    def _find(self, wanted: Index) -> Index | None:
        """Raises EdgesealError when something else lies there."""
        found = self._tpm.index(wanted.handle)
        if found is not None and replace(found, attributes=found.attributes & ~_STATE) != wanted:
            raise EdgesealError(
                f"the TPM's index 0x{wanted.handle:08x} holds something else",
                hint="it is not ours; its owner can remove it: tpm2_nvundefine -C o",
            )
        return found


def open_counter(device: Path = TPM_DEVICE, *, pause: Pause) -> EpochCounter | None:
    """The epoch of this machine's TPM; None when it has none. Raises EdgesealError when it cannot be opened."""
    transmit = open_tpm(device)
    return None if transmit is None else EpochCounter(transmit, pause=pause)


def _is_written(index: Index | None) -> bool:
    return index is not None and bool(index.attributes & Attribute.WRITTEN)
