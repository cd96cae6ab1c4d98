"""What the audit log's store keeps beside the tree: the journal's beginning, and what was pruned. Pure.

Spec: docs/specs/audit-log.md (v2), sections Journal and Pruning. Canonical JSON, final newline included.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.audit_event import WholeNumber
from appliance.formats.checkpoint import MAX_ORIGIN
from appliance.formats.device import FrozenStruct
from appliance.formats.tlog_tiles import TILE_WIDTH

Kind = TypeVar("Kind", bound=FrozenStruct)


class JournalBegin(FrozenStruct, frozen=True, kw_only=True):
    """The journal's first batch.

    base: index of the first entry that the journal has, a multiple of 256. bundles: bytes on the disk that all full
    bundles before it had when they were written.
    """

    schema: Literal[1] = 1
    origin: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ORIGIN)]
    base: WholeNumber
    bundles: WholeNumber


class PrunedState(FrozenStruct, frozen=True, kw_only=True):
    """minimum: index. removed: files that end up to here are gone, or go now; swept: they are gone for certain.

    bundles: bytes on the disk that all removed bundles had.
    """

    schema: Literal[1] = 1
    minimum: WholeNumber = 0
    removed: WholeNumber = 0
    swept: WholeNumber = 0
    bundles: WholeNumber = 0


def encode_state(state: JournalBegin | PrunedState) -> bytes:
    """The canonical bytes."""
    return canonical_json(msgspec.to_builtins(state))


def decode_begin(data: bytes) -> JournalBegin:
    """Raises DecodeError."""
    begin = _decode(data, JournalBegin, "journal")
    if begin.base % TILE_WIDTH:
        raise DecodeError(f"journal: a base of {begin.base}, a multiple of {TILE_WIDTH} is needed")
    return begin


def decode_pruned(data: bytes) -> PrunedState:
    """Raises DecodeError."""
    state = _decode(data, PrunedState, "pruned")
    if not state.swept <= state.removed <= state.minimum or (state.removed | state.swept) % TILE_WIDTH:
        raise DecodeError("pruned: swept, removed and minimum do not go together")
    return state


def _decode(data: bytes, kind: type[Kind], what: str) -> Kind:
    try:
        state = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"{what}: {error}") from error
    if canonical_json(msgspec.to_builtins(state)) != data:
        raise DecodeError(f"{what}: not in canonical form")
    return state
