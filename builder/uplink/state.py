"""The watcher's state file: written before the broker is told that messages have arrived, so that none is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, InputError, Place
from appliance.formats.device import FrozenStruct
from appliance.formats.verdict import Count
from builder.uplink.tally import StreamState, Tally, states_of, tally_of
from builder.uplink.watch import Recent, Watch

_HINT = "give another file, or remove it to count anew"
PacketId = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}(?!\n)$")]


class WatchState(FrozenStruct, frozen=True, kw_only=True):
    """recent: packet identifiers and digests of the last messages, see watch.Recent."""

    schema: Literal[1] = 1
    unreadable: Count
    streams: tuple[StreamState, ...]
    recent: tuple[tuple[PacketId, Digest], ...]


def encode_state(watch: Watch) -> bytes:
    """Everything that `watch` must not forget."""
    state = WatchState(unreadable=watch.unreadable, streams=states_of(watch.tally), recent=watch.recent.entries())
    return canonical_json(msgspec.to_builtins(state))


def decode_state(data: bytes, *, joined: bool, limit: int) -> Watch:
    """joined, limit: as of Tally and Recent. Raises DecodeError."""
    try:
        state = msgspec.json.decode(data, type=WatchState)
        tally = tally_of(state.streams, joined=joined)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise DecodeError(f"the state of a watcher: {error}", hint=_HINT) from error
    return Watch(tally, Recent(limit, state.recent), unreadable=state.unreadable)


def load(path: Path | None, *, joined: bool, limit: int) -> Watch:
    """The watch that goes on from `path`, or a new one. Raises InputError, DecodeError."""
    if path is None or not path.exists():
        if path is not None and not path.parent.is_dir():
            raise InputError("there is no such directory", place=Place(str(path.parent)), hint="make it first")
        return Watch(Tally(joined=joined), Recent(limit))
    try:
        return decode_state(path.read_bytes(), joined=joined, limit=limit)
    except DecodeError as error:
        raise DecodeError(error.message, hint=error.hint, place=Place(str(path))) from error


def save(path: Path, watch: Watch) -> None:
    """Durable when it returns."""
    write_durable(path, encode_state(watch), mode=0o600)
