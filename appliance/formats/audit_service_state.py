"""What the audit service keeps beside the log, in /var/lib/edgeseal-audit/state: canonical JSON, one file each.

Only the service that wrote them reads them. Unknown keys are refused: an older version must not go on with half of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.audit_event import WholeNumber
from appliance.formats.device import FrozenStruct
from appliance.formats.verdict import BootId

State = TypeVar("State", bound=FrozenStruct)


class EpochChange(FrozenStruct, frozen=True, kw_only=True):
    """A change that was begun, in boot_id at since_us. index: of the entry that says so. vkey: of the next key."""

    index: WholeNumber
    vkey: str
    boot_id: BootId
    since_us: WholeNumber


class KeyState(FrozenStruct, frozen=True, kw_only=True):
    """keys.json. epoch: number of the present one, from 1; it began in boot_id at since_us (monotonic)."""

    schema: Literal[1] = 1
    origin: str
    epoch: WholeNumber
    boot_id: BootId
    since_us: WholeNumber
    change: EpochChange | None = None


class AnchorState(FrozenStruct, frozen=True, kw_only=True):
    """anchor.json. count: what the TPM's counter is, or will be after a step that was begun."""

    schema: Literal[1] = 1
    count: WholeNumber


class Progress(FrozenStruct, frozen=True, kw_only=True):
    """uplink.json. start: the next entry. size, note: the checkpoint on its way; previous: the one completed last."""

    schema: Literal[1] = 1
    origin: str
    start: WholeNumber = 0
    previous: WholeNumber = 0
    size: WholeNumber = 0
    note: Annotated[str, msgspec.Meta(max_length=8192)] = ""


def encode_state(state: FrozenStruct) -> bytes:
    """The canonical bytes."""
    return canonical_json(msgspec.to_builtins(state))


def decode_state(data: bytes, kind: type[State]) -> State:
    """Raises DecodeError on anything but the canonical bytes of a `kind`."""
    try:
        state = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"state of the audit log: {error}") from error
    if encode_state(state) != data:
        raise DecodeError("state of the audit log: not in canonical form")
    return state


def changed(state: State, **fields: Any) -> State:
    """As dataclasses.replace."""
    return msgspec.structs.replace(state, **fields)
