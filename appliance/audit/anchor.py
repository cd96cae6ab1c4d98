"""How an older disk is recognised: a counter in the TPM that the disk has to know. See docs/adr/0029.

`anchor.json` names the value that the counter has, or will have after a step that was begun: the file is durable before
the TPM counts. So the counter is at the file's value or one below it. Above: the disk is older than the last step.
Further below, or gone: another TPM, or one that was cleared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from appliance.core.durable import write_durable
from appliance.core.errors import EdgesealError
from appliance.formats.audit_service_state import AnchorState, decode_state, encode_state
from appliance.machine.tpm import Attribute, Index, Tpm

COUNTER = Index(
    0x0180_6566,
    Attribute.AUTH_WRITE | Attribute.AUTH_READ | Attribute.OWNER_READ | Attribute.NO_LOCKOUT | Attribute.COUNTER,
    8,
)
EVERY_US = 3_600_000_000
"""At most one step an hour besides those at boot and end: memory that bears 100,000 writes lasts over ten years."""


@dataclass(frozen=True)
class Found:
    """What the TPM says of this disk. count: of the TPM; known: of the disk; None where there is none."""

    verdict: Literal["new", "newest", "older", "strange"]
    count: int | None
    known: int | None


class Anchor:
    """The counter of one log. directory: private state."""

    def __init__(self, directory: Path, tpm: Tpm) -> None:
        self._path = directory / "anchor.json"
        self._tpm = tpm

    def look(self) -> Found:
        """Changes nothing. Raises EdgesealError when the TPM does not tell, DecodeError."""
        known, count = self._known(), self._count()
        if known is None:
            return Found("new", count, known)
        if count is None or count < known - 1:
            return Found("strange", count, known)
        return Found("older" if count > known else "newest", count, known)

    def step(self) -> int:
        """Count on; what the counter is then. Disks older than this are recognised. Raises EdgesealError, OSError."""
        if self._find() is None:
            self._tpm.define(COUNTER)
        count = self._count()
        if count is None:  # the first step makes it higher than any counter that this TPM ever had
            self._tpm.increment(COUNTER.handle)
            count = self._count() or 0
        self._keep(count + 1)
        self._tpm.increment(COUNTER.handle)
        now = self._count()
        if now != count + 1:
            raise EdgesealError(f"the TPM's counter is {now}, not {count + 1}: somebody else counts too")
        return now

    def _keep(self, count: int) -> None:
        write_durable(self._path, encode_state(AnchorState(count=count)), mode=0o600)

    def _known(self) -> int | None:
        try:
            return decode_state(self._path.read_bytes(), AnchorState).count
        except FileNotFoundError:
            return None

    def _count(self) -> int | None:
        """None when it was never raised."""
        found = self._find()
        if found is None or not found.attributes & Attribute.WRITTEN:
            return None
        return int.from_bytes(self._tpm.read(COUNTER.handle, COUNTER.size), "big")

    def _find(self) -> Index | None:
        found = self._tpm.index(COUNTER.handle)
        if found is not None and replace(found, attributes=found.attributes & ~Attribute.WRITTEN) != COUNTER:
            raise EdgesealError(
                f"the TPM's index 0x{COUNTER.handle:08x} holds something else",
                hint="it is not ours; its owner can remove it: tpm2_nvundefine -C o",
            )
        return found
