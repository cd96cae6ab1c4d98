"""Opens a batch: one zstd frame (RFC 8878) that says how long its content is. The sender is not trusted."""

from __future__ import annotations

import zstandard

from appliance.core.errors import DecodeError
from appliance.formats.uplink_envelope import MAX_BATCH_DECODED, MAX_BATCH_MESSAGES


def unpack(data: bytes) -> tuple[bytes, ...]:
    """The envelopes of a batch, not decoded. At most MAX_BATCH_DECODED bytes are made of it. Raises DecodeError."""
    size = _declared_size(data)
    try:
        decoder = zstandard.ZstdDecompressor(max_window_size=MAX_BATCH_DECODED)
        content = decoder.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DecodeError(f"batch: {error}") from error
    if not content.endswith(b"\n"):
        raise DecodeError("batch: its last message has no end")
    if (count := content.count(b"\n")) > MAX_BATCH_MESSAGES:
        raise DecodeError(f"batch: {count} messages, at most {MAX_BATCH_MESSAGES} are allowed")
    return tuple(line + b"\n" for line in content[:-1].split(b"\n"))


def _declared_size(data: bytes) -> int:
    try:
        frame = zstandard.get_frame_parameters(data)
    except zstandard.ZstdError as error:
        raise DecodeError(f"batch: {error}") from error
    size: int = frame.content_size
    if size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
        raise DecodeError("batch: it does not say how long its content is")
    if not 0 < size <= MAX_BATCH_DECODED:
        raise DecodeError(f"batch: a content of {size} bytes, 1 to {MAX_BATCH_DECODED} are allowed")
    if frame.dict_id:
        raise DecodeError(f"batch: it needs dictionary {frame.dict_id}, there is none")
    return size
