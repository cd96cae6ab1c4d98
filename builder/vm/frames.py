"""Feeds pictures into a machine's frame channel. Spec: docs/specs/frame-channel.md (v1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.formats.frame import Frame, encode_frame
from builder.vm.channel import Channel


class FrameFeeder:
    """One connection. The device takes frames at its own pace: sending waits for it."""

    def __init__(self, path: Path, *, within_s: float, check: Callable[[], object]) -> None:
        self._channel = Channel(path, what="frame channel", within_s=within_s, check=check)

    def send(self, frame: Frame, *, within_s: float = 120.0) -> None:
        """Raises EdgesealError when the device does not take it in time."""
        self._channel.send(encode_frame(frame), within_s=within_s)

    def send_bytes(self, data: bytes, *, within_s: float = 120.0) -> None:
        """Bytes that need not be a frame: what a faulty camera would send."""
        self._channel.send(data, within_s=within_s)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()
