"""What the health check thought of a boot. Spec: docs/specs/judgement.md (v1).

One file, /var/lib/edgeseal-health/judgement.json, of the last boot that was judged. Canonical JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct

JUDGEMENT_PATH = "/var/lib/edgeseal-health/judgement.json"
MAX_JUDGEMENT_BYTES = 8 << 10


class Judgement(FrozenStruct, frozen=True, kw_only=True):
    """boot_id: the kernel's, of the boot that was judged. version: of the image that ran.

    good: whether it counts as good. reason: why, or why not, for people. seconds: from the first look to the end.
    """

    schema: Literal[1] = 1
    boot_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}(?!\n)$")]
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    good: bool
    reason: Annotated[str, msgspec.Meta(max_length=1024)]
    seconds: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


def encode_judgement(judgement: Judgement) -> bytes:
    """The canonical bytes."""
    return canonical_json(msgspec.to_builtins(judgement))


def decode_judgement(data: bytes) -> Judgement:
    """Raises DecodeError on anything but exactly the canonical bytes of a Judgement."""
    if len(data) > MAX_JUDGEMENT_BYTES:
        raise DecodeError(f"judgement: {len(data)} bytes, at most {MAX_JUDGEMENT_BYTES} are allowed")
    try:
        judgement = msgspec.json.decode(data, type=Judgement)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"judgement: {error}") from error
    if encode_judgement(judgement) != data:
        raise DecodeError("judgement: not in canonical form")
    return judgement
