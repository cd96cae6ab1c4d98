"""A state of the device that a person at the plant should know of. Spec: docs/specs/uplink-socket.md (v2).

It is raised and cleared: `name` is active until a later alarm of the same name and boot says that it is not.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct, Identifier
from appliance.formats.verdict import BootId, Count, DeviceId

MAX_ALARM_BYTES = 2048

AlarmText = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Alarm(FrozenStruct, frozen=True, kw_only=True):
    """name: of the state, as `frame-source-lost`. text: why, for people. monotonic_us: when it began or ended."""

    schema: Literal[1] = 1
    device: DeviceId
    boot_id: BootId
    name: Identifier
    active: bool
    text: AlarmText
    monotonic_us: Count


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(Alarm)


def encode_alarm(alarm: Alarm) -> bytes:
    """The canonical bytes of `alarm`."""
    return _ENCODER.encode(alarm) + b"\n"


def decode_alarm(data: bytes) -> Alarm:
    """Raises DecodeError on anything but the canonical bytes of an Alarm."""
    if len(data) > MAX_ALARM_BYTES:
        raise DecodeError(f"alarm: {len(data)} bytes, at most {MAX_ALARM_BYTES} are allowed")
    try:
        alarm = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"alarm: {error}") from error
    if encode_alarm(alarm) != data:
        raise DecodeError("alarm: not in canonical form")
    return alarm
