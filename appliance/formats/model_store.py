"""Models on a device's data partition: who says which one is current. Spec: docs/specs/model-store.md (v1).

edgeseal-update writes them, the inference service may read them. Two files per model, each replaced durably:
current.json for every reader, pending.json for the writer alone. Canonical JSON.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.approval import Offsets, Windows
from appliance.formats.device import FrozenStruct, Identifier, Sha256Hex
from appliance.formats.release import Version

MODEL_STORE = "/var/lib/edgeseal-update/models"
CURRENT_FILE, PENDING_FILE = "current.json", "pending.json"
MAX_MODEL_FILE_BYTES = 64 << 10

Whole = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Kind = TypeVar("Kind", bound=FrozenStruct)


class StoredModel(FrozenStruct, frozen=True, kw_only=True):
    """A version that is whole and was verified. release: sha256 of its manifest, which is VERSION.json beside it.

    policy_sequence: of the site's policy that let it in.
    """

    version: Version
    release: Sha256Hex
    policy_sequence: Whole


class CurrentModel(FrozenStruct, frozen=True, kw_only=True):
    """What is to run. previous: what was current before it, for the return; null when there is none, or no room."""

    schema: Literal[1] = 1
    model: Identifier
    current: StoredModel
    previous: StoredModel | None = None


class PendingModel(FrozenStruct, frozen=True, kw_only=True):
    """A version on its way, decided and not yet whole.

    transaction: names it in the audit log. windows, offsets, clock, time_unknown: as the policy and the approval say;
    fetching pauses outside of the windows.
    """

    schema: Literal[1] = 1
    model: Identifier
    transaction: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}(?!\n)$")]
    release: Sha256Hex
    version: Version
    policy_sequence: Whole
    windows: Windows = ()
    offsets: Offsets = ()
    clock: Literal["machine", "none"] = "machine"
    time_unknown: Literal["wait", "install"] = "wait"


def without_previous(current: CurrentModel) -> CurrentModel:
    """There is no way back from it."""
    return msgspec.structs.replace(current, previous=None)


def manifest_file(version: int) -> str:
    """Name of a version's manifest, byte for byte as it was signed."""
    return f"{version}.json"


def onnx_file(version: int) -> str:
    """Name of a version's model, whole and verified."""
    return f"{version}.onnx"


def part_file(version: int) -> str:
    """Name of a version's model while it is fetched; nobody but the writer opens it."""
    return f"{version}.part"


def encode_current(current: CurrentModel) -> bytes:
    """The canonical bytes. Raises DecodeError when a bound between fields does not hold."""
    return canonical_json(msgspec.to_builtins(_checked(current)))


def decode_current(data: bytes) -> CurrentModel:
    """Raises DecodeError on anything but exactly the canonical bytes of a CurrentModel."""
    return _decode(data, CurrentModel, "current model", encode_current)


def encode_pending(pending: PendingModel) -> bytes:
    """The canonical bytes."""
    return canonical_json(msgspec.to_builtins(pending))


def decode_pending(data: bytes) -> PendingModel:
    """Raises DecodeError on anything but exactly the canonical bytes of a PendingModel."""
    return _decode(data, PendingModel, "pending model", encode_pending)


def _checked(current: CurrentModel) -> CurrentModel:
    if current.previous is not None and current.previous.version >= current.current.version:
        raise DecodeError("current model: previous is not below current")
    return current


def _decode(data: bytes, kind: type[Kind], what: str, encode: Any) -> Kind:
    if len(data) > MAX_MODEL_FILE_BYTES:
        raise DecodeError(f"{what}: {len(data)} bytes, at most {MAX_MODEL_FILE_BYTES} are allowed")
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"{what}: {error}") from error
    if encode(value) != data:
        raise DecodeError(f"{what}: not in canonical form")
    return value
