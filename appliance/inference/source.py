"""Where frames come from."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Protocol

from appliance.core.errors import EdgesealError
from appliance.formats.device import FrameSource
from appliance.formats.frame import Frame, FrameDecoder

READ_BYTES = 256 << 10
PAUSE_S = 0.5
ATTEMPTS = 120  # a minute


class Waiter(Protocol):
    """Sleeps, but not beyond the service's stop; then its descriptor is readable."""

    def fileno(self) -> int:
        """For poll."""

    def wait(self, seconds: float) -> None:
        """Sleep up to `seconds`."""


class PortSource:
    """Frames from a character device: the virtio port of a virtual machine.

    The kernel says end-of-file as long as the host has not connected; that is waited out. Nothing is skipped: bytes
    that are no frame end the session, and the port is opened anew.
    """

    def __init__(self, source: FrameSource) -> None:
        """Raises EdgesealError when the device cannot be opened."""
        self._source = source
        self._open()

    def next(self, waiter: Waiter, timeout_s: float) -> Frame | None:
        """The next frame, or None when none is whole after about `timeout_s`. Raises DecodeError; reopen() then."""
        frame = self._decoder.take()
        if frame is not None:
            return frame
        if self._readable(waiter, timeout_s):
            data = self._read()
            if not data:
                waiter.wait(min(PAUSE_S, timeout_s))
            self._decoder.feed(data)
        return self._decoder.take()

    def reopen(self) -> None:
        """Forget the session and begin another one. Raises EdgesealError."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close the device."""
        os.close(self._descriptor)

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._source.device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise EdgesealError(f"cannot open the frame source {self._source.device}: {error.strerror}") from error
        self._decoder = FrameDecoder(max_pixels=self._source.width * self._source.height)

    def _readable(self, waiter: Waiter, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(waiter.fileno(), select.POLLIN)
        return any(descriptor == self._descriptor for descriptor, _ in poll.poll(timeout_s * 1000))

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return b""


def open_source(source: FrameSource, waiter: Waiter, *, attempts: int = ATTEMPTS) -> PortSource:
    """Wait for the device to appear (udev makes it), and open it. Raises EdgesealError."""
    if source.kind == "v4l2":
        raise EdgesealError(
            f"the frame source {source.device} is a camera, and this version cannot read cameras yet",
            hint="use a source of kind virtio, or an image with the camera service",
        )
    for _ in range(attempts):
        if Path(source.device).exists():
            break
        waiter.wait(PAUSE_S)
    return PortSource(source)
