"""The chain of epoch keys: each one announced under the one before, whose private half was destroyed. Pure.

Who steals all keys of today can sign today's log; he cannot sign another yesterday: the handover of every epoch is a
checkpoint of the tree before it, signed by a key that is no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.audit_log import LogEntry
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.signed_note import ED25519, Check, OpenedNote, VerifierKey, decode_vkey, open_note
from builder.audit.finding import Finding

SUFFIX = "/epoch"
_EMPTY = ""


@dataclass(frozen=True)
class Epoch:
    """number: from 1. index: of the entry that announced its key."""

    number: int
    index: int
    key: VerifierKey


@dataclass
class Chain:
    """epochs: in order, as far as they hold. complete: it begins with epoch 1, so nothing before is taken on trust."""

    epochs: list[Epoch] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return bool(self.epochs) and self.epochs[0].number == 1

    def in_force(self, size: int) -> Epoch | None:
        """Whose key signs a checkpoint of `size`."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.index < size), None)


def follow_epochs(
    entries: Iterable[LogEntry],
    *,
    log_keys: Sequence[VerifierKey],
    origin: str,
    check: Check,
    root_at: Callable[[int], bytes | None],
    file_of: Callable[[int], str],
) -> Chain:
    """entries: of kind `epoch-began`, in order. root_at: root of the tree of a size; None where it is pruned."""
    chain = Chain()
    for entry in entries:
        try:
            epoch = _announced(entry, origin)
            _continues(chain, epoch)
            _handed_over(entry, epoch, chain, log_keys, origin, check, root_at)
        except EdgesealError as error:
            chain.findings.append(Finding(file_of(entry.index), error.message, entry.index))
            continue
        chain.epochs.append(epoch)
    return chain


def signed_in_force(opened: OpenedNote, chain: Chain, checkpoint: Checkpoint) -> Finding | None:
    """Whether the checkpoint has the line of the epoch in force. opened: with the keys of all epochs as known keys."""
    epoch = chain.in_force(checkpoint.size)
    if epoch is None:
        return Finding("checkpoint", "no epoch key is announced below this size")
    signers = [verified.key for verified in opened.verified]
    if epoch.key in signers:
        return None
    there = [f"epoch {other.number}" for other in chain.epochs if other.key in signers]
    message = "it is not signed by the key of the epoch in force"
    return Finding("checkpoint", message, None, f"epoch {epoch.number}", ", ".join(there) or "no known epoch key")


def _announced(entry: LogEntry, origin: str) -> Epoch:
    fields = entry.event.fields
    number, text = fields.get("epoch"), fields.get("vkey")
    if not isinstance(number, int) or isinstance(number, bool) or not isinstance(text, str):
        raise DecodeError("epoch-began without its epoch and vkey")
    key = decode_vkey(text)
    if key.kind != ED25519 or key.name != origin + SUFFIX:
        raise VerificationError(f"the key of epoch {number} is {key.name}, not an Ed25519 key {origin}{SUFFIX}")
    return Epoch(number, entry.index, key)


def _continues(chain: Chain, epoch: Epoch) -> None:
    if chain.epochs and epoch.number != chain.epochs[-1].number + 1:
        raise VerificationError(f"epoch {epoch.number} follows epoch {chain.epochs[-1].number}")
    if any(epoch.key == other.key for other in chain.epochs):
        raise VerificationError(f"epoch {epoch.number} has the key of an earlier epoch")


def _handed_over(
    entry: LogEntry,
    epoch: Epoch,
    chain: Chain,
    log_keys: Sequence[VerifierKey],
    origin: str,
    check: Check,
    root_at: Callable[[int], bytes | None],
) -> None:
    handover = str(entry.event.fields.get("handover", _EMPTY))
    if epoch.number == 1:
        if handover:
            raise VerificationError("epoch 1 has a handover, and nothing was before it")
        return
    before = [chain.epochs[-1].key] if chain.epochs else []
    opened = open_note(handover.encode(), [*log_keys, *before], check)
    signers = [verified.key for verified in opened.verified]
    if not any(key in signers for key in log_keys):
        raise VerificationError(f"the handover to epoch {epoch.number} is not signed by the log key")
    if before and before[0] not in signers:
        raise VerificationError(f"the handover to epoch {epoch.number} is not signed by epoch {epoch.number - 1}")
    _holds(decode_checkpoint(opened.text), entry, epoch, origin, root_at(entry.index))


def _holds(checkpoint: Checkpoint, entry: LogEntry, epoch: Epoch, origin: str, root: bytes | None) -> None:
    what = f"the handover to epoch {epoch.number}"
    announced = (f"epoch {epoch.number} {entry.event.fields['vkey']}",)
    if checkpoint.extensions != announced:
        raise VerificationError(f"{what} names another key than its entry")
    if (checkpoint.origin, checkpoint.size) != (origin, entry.index):
        raise VerificationError(f"{what} is for size {checkpoint.size} of {checkpoint.origin}, not for its own place")
    if root is not None and checkpoint.root != root:
        raise VerificationError(f"{what} signs another tree than the one before entry {entry.index}")
