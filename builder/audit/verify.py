"""Verify a whole log: signatures, tree, entries, epochs, growth. Raises only for what cannot be looked at at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.checkpoint import Checkpoint, decode_checkpoint
from appliance.formats.merkle import consistency_proof, root_hash, verify_consistency
from appliance.formats.signed_note import COSIGNATURE, OpenedNote, Verified, VerifierKey, open_note
from appliance.formats.tlog_tiles import BUNDLE, CHECKPOINT_NAME, TILE_WIDTH, Tile
from builder.audit.beside import check_previous, check_vkey_file
from builder.audit.crypto import check_signature
from builder.audit.directory import LogDirectory
from builder.audit.entries import ClockStep, Stretch, join
from builder.audit.epochs import Chain, Epoch, follow_epochs, signed_in_force
from builder.audit.finding import MAX_FINDINGS, Finding
from builder.audit.policy import Policy
from builder.audit.tree import Task, check_bundles, check_other_files, check_root, check_upper_tiles, fault

_TASK_BUNDLES = 64  # 16,384 entries: a tenth of a second
Map = Callable[[Callable[[Task], Stretch], Sequence[Task]], Iterator[Stretch]]


@dataclass
class Review:
    """What was seen. findings: what is wrong, at most MAX_FINDINGS of `wrong`. remarks: what is worth knowing."""

    origin: str = ""
    size: int = 0
    root: bytes = b""
    minimum: int = 0
    entries: int = 0
    signers: list[Verified] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    boots: tuple[int, int] | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    steps: list[ClockStep] = field(default_factory=list)
    previous: str = ""
    since: int | None = None
    findings: list[Finding] = field(default_factory=list)
    wrong: int = 0
    remarks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.wrong

    def add(self, findings: Sequence[Finding]) -> None:
        """Take these in."""
        self.wrong += len(findings)
        self.findings += findings[: MAX_FINDINGS - len(self.findings)]


def open_checkpoint(note: bytes, keys: Sequence[VerifierKey], policy: Policy) -> tuple[Checkpoint, OpenedNote]:
    """A checkpoint that its log signed and, by `policy`, enough witnesses. keys: of the log, of its epochs too.

    Raises DecodeError or VerificationError.
    """
    opened = open_note(note, [*keys, *policy.witnesses.values()], check_signature)
    checkpoint = decode_checkpoint(opened.text)
    signers = [verified.key for verified in opened.verified]
    own = [key for key in signers if key.kind != COSIGNATURE]
    if not own:
        raise VerificationError("the log's key did not sign it")
    if not any(key.name == checkpoint.origin for key in own):
        raise VerificationError(f"it is of the log {checkpoint.origin}, the key is of {own[0].name}")
    if not policy.is_met(signers):
        raise VerificationError(f"not enough witnesses: needed {policy.missing(signers)}")
    return checkpoint, opened


def verify_log(
    path: Path,
    keys: Sequence[VerifierKey],
    policy: Policy,
    *,
    since: bytes | None,
    run: Map = map,
) -> Review:
    """keys: of the log (name = origin), and of epochs where one is known. since: an earlier signed checkpoint.

    run: maps over tasks in order, in processes for a large log. Raises InputError when there is no log.
    """
    log, review = LogDirectory(path), Review()
    note = log.note()
    log_keys = [key for key in keys if not key.name.endswith("/epoch")]
    try:
        checkpoint, _ = open_checkpoint(note, log_keys, policy)
    except EdgesealError as error:
        review.add([Finding(CHECKPOINT_NAME, error.message)])
        return review
    review.origin, review.size, review.root = checkpoint.origin, checkpoint.size, checkpoint.root
    try:
        first = log.first_bundle()
    except DecodeError as error:
        review.add([fault(error, "tile")])
        return review
    review.minimum = min(checkpoint.size, (first or 0) * TILE_WIDTH)
    stretch = _walk(log, review, run)
    tree = check_root(log, checkpoint.size, checkpoint.root)
    tree += check_upper_tiles(log, checkpoint.size, review.minimum)
    review.add(tree)
    _other_files(log, review)
    _take(review, stretch)
    chain = _chain(log, review, log_keys, stretch, whole=not tree)
    _known_epochs(review, chain, keys)
    _who_signed(review, note, log_keys, chain, policy, checkpoint)
    _beside(log, review, log_keys, keys, chain)
    if since is not None:
        _since(log, review, log_keys, since)
    return review


def _walk(log: LogDirectory, review: Review, run: Map) -> Stretch:
    bundles = range(review.minimum // TILE_WIDTH, -(-review.size // TILE_WIDTH))
    starts = range(bundles.start, bundles.stop, _TASK_BUNDLES)
    tasks = [Task(log.path, review.size, first, min(first + _TASK_BUNDLES, bundles.stop)) for first in starts]
    whole = Stretch()
    for task, part in zip(tasks, run(check_bundles, tasks), strict=True):
        join(whole, part, file=_bundle(task.first * TILE_WIDTH, review.size))
    return whole


def _take(review: Review, stretch: Stretch) -> None:
    review.add(stretch.findings)
    review.entries, review.kinds, review.steps = stretch.count, stretch.kinds, stretch.steps
    if stretch.first is not None and stretch.last is not None:
        review.boots = (stretch.first.boot, stretch.last.boot)
    began = [entry for entry in stretch.chain if entry.event.kind == "log-began"]
    for entry in began:
        if entry.index:
            review.add([Finding(_bundle(entry.index, review.size), "log-began inside of a log", entry.index)])
        else:
            review.previous = str(entry.event.fields.get("previous", ""))
    if review.minimum:
        review.remarks.append(f"entries before {review.minimum} were pruned; the tree over them is proven by its tiles")
    elif not began:
        review.remarks.append("the log does not begin with log-began: what was before it is not said")


def _chain(
    log: LogDirectory, review: Review, log_keys: Sequence[VerifierKey], stretch: Stretch, *, whole: bool
) -> Chain:
    """whole: the tiles are a tree; roots of a broken one would say again that it is broken."""
    nodes = log.nodes(review.size)

    def root_at(size: int) -> bytes | None:
        if size < review.minimum or not whole:
            return None
        try:
            return root_hash(size, nodes)
        except DecodeError:
            return None  # told as a finding of the tile

    chain = follow_epochs(
        [entry for entry in stretch.chain if entry.event.kind == "epoch-began"],
        log_keys=log_keys,
        origin=review.origin,
        check=check_signature,
        root_at=root_at,
        file_of=lambda index: _bundle(index, review.size),
    )
    review.add(chain.findings)
    review.epochs = chain.epochs
    if chain.epochs and not chain.is_complete:
        first = chain.epochs[0].number
        review.remarks.append(f"epochs before {first} were pruned: the key of epoch {first - 1} is not known here")
    return chain


def _known_epochs(review: Review, chain: Chain, keys: Sequence[VerifierKey]) -> None:
    known = [epoch.key for epoch in chain.epochs]
    given = [key for key in keys if key.name == f"{review.origin}/epoch"]
    if chain.is_complete and given and not any(key in known for key in given):
        message = "the epoch key that you gave was never announced in this log"
        review.add([Finding(CHECKPOINT_NAME, message, None, given[0].key_id.hex(), known[0].key_id.hex())])


def _who_signed(
    review: Review,
    note: bytes,
    log_keys: Sequence[VerifierKey],
    chain: Chain,
    policy: Policy,
    checkpoint: Checkpoint,
) -> None:
    epoch_keys = [epoch.key for epoch in chain.epochs]
    try:
        opened = open_note(note, [*log_keys, *epoch_keys, *policy.witnesses.values()], check_signature)
    except EdgesealError as error:
        review.add([Finding(CHECKPOINT_NAME, error.message)])
        return
    review.signers = list(opened.verified)
    if chain.epochs or not (review.minimum or review.wrong):
        finding = signed_in_force(opened, chain, checkpoint)
        review.add([finding] if finding else [])
    for line in opened.unknown:
        review.remarks.append(
            f"a signature of {line.name}+{line.key_id.hex()}, whose key was not given, was not checked"
        )


def _beside(
    log: LogDirectory,
    review: Review,
    log_keys: Sequence[VerifierKey],
    keys: Sequence[VerifierKey],
    chain: Chain,
) -> None:
    names = {review.origin, f"{review.origin}/epoch"} if chain.is_complete else {review.origin}
    review.add(check_vkey_file(log.path, [*log_keys, *(epoch.key for epoch in chain.epochs)], names))
    findings, remarks = check_previous(review.previous, keys, file=_bundle(0, review.size))
    review.add(findings)
    review.remarks += remarks


def _other_files(log: LogDirectory, review: Review) -> None:
    findings, remarks = check_other_files(log, review.size, review.minimum)
    review.add(findings)
    review.remarks += remarks


def _since(log: LogDirectory, review: Review, log_keys: Sequence[VerifierKey], since: bytes) -> None:
    nobody = Policy((), {}, {}, None)
    try:
        before, _ = open_checkpoint(since, log_keys, nobody)
        review.since = before.size
        if before.size > review.size:
            message = "the log is smaller than it was: it was rolled back or cut"
            review.add([Finding(CHECKPOINT_NAME, message, None, f"size {before.size} or more", f"size {review.size}")])
            return
        proof = consistency_proof(before.size, review.size, log.nodes(review.size))
        verify_consistency(before.size, before.root, review.size, review.root, proof)
    except EdgesealError as error:
        review.add([Finding(CHECKPOINT_NAME, f"does not continue the earlier checkpoint: {error.message}")])


def _bundle(index: int, size: int) -> str:
    number = index // TILE_WIDTH
    return Tile(BUNDLE, number, min(TILE_WIDTH, size - number * TILE_WIDTH)).path
