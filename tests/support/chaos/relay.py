"""A link that can be broken: a TCP relay on loopback between the uplink and the broker.

Toxics: cut (reset, and refused meanwhile), half-open (what is open stays open and swallows everything for ever),
latency, bandwidth, reset after a number of bytes. Lost packets are the kernel's work: tests/support/chaos/loss.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable

_CHUNK = 4096
_QUEUE = 4096  # chunks under way
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


class Relay:
    """Listens on `port` (set after start) for as long as the process lives; runs in a thread of its own."""

    def __init__(self, target: int, *, seed: int) -> None:
        """target: port of the broker on loopback."""
        self._target = target
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._links: set[_Link] = set()
        self._refusing = False
        self.latency_s = 0.0
        self.bytes_per_s: int | None = None
        self.reset_bytes: int | None = None
        self.started: list[float] = []
        self.up = self.down = 0
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._run, name="relay", daemon=True).start()

    @property
    def connections(self) -> int:
        """How many connections reached the broker so far."""
        return len(self.started)

    def cut(self) -> None:
        """Reset what is open, and everything that comes until heal()."""
        self._refusing = True
        self._do(lambda: [link.reset() for link in list(self._links)])

    def half_open(self) -> None:
        """What is open now says nothing any more, in both directions, and is never closed."""
        self._do(lambda: [link.swallow() for link in list(self._links)])

    def resets(self, most: int) -> None:
        """Connections from now on are reset after 1 to `most` bytes, up and down together; those open as well."""
        self.reset_bytes = most
        self._do(lambda: [link.limit(self.reset_after()) for link in list(self._links)])

    def heal(self) -> None:
        """A good link again; what was swallowed stays so."""
        self._refusing = False
        self.latency_s, self.bytes_per_s, self.reset_bytes = 0.0, None, None
        self._do(lambda: [link.limit(None) for link in list(self._links)])

    def reset_after(self) -> int | None:
        """The next connection's number of bytes."""
        return None if self.reset_bytes is None else self._dice.randint(1, self.reset_bytes)

    def _do(self, action: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._accept, sock=self._listener, limit=_CHUNK))
        self._loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, writer)
        if self._refusing:
            link.reset()
            return
        try:
            broker = await asyncio.open_connection("127.0.0.1", self._target, limit=_CHUNK)
        except OSError:
            link.reset()
            return
        self.started.append(time.monotonic())
        link.broker = broker[1]
        link.limit(self.reset_after())
        self._links.add(link)
        await asyncio.gather(link.pump(reader, broker[1], up=True), link.pump(broker[0], writer, up=False))
        self._links.discard(link)


class _Link:
    """One connection, both ways."""

    def __init__(self, relay: Relay, client: asyncio.StreamWriter) -> None:
        self._relay = relay
        self._client = client
        self.broker: asyncio.StreamWriter | None = None
        self._swallowing = False
        self._left: int | None = None

    def swallow(self) -> None:
        self._swallowing = True

    def limit(self, count: int | None) -> None:
        self._left = count

    def reset(self) -> None:
        for writer in (self._client, self.broker):
            sock = None if writer is None else writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            if writer is not None:
                writer.transport.abort()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        """Carry bytes one way until one side ends; the end is passed on, unless the link is half-open."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)
        carrier = asyncio.ensure_future(self._carry(queue, writer, up=up))
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await queue.put((time.monotonic() + (self._relay.latency_s if up else 0.0), data))
        await queue.put((0.0, b""))
        await carrier
        if not self._swallowing:
            writer.close()

    async def _carry(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        while True:
            due, data = await queue.get()
            if not data:
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()) if due else 0)
            if self._swallowing:
                continue
            if self._relay.bytes_per_s is not None:
                await asyncio.sleep(len(data) / self._relay.bytes_per_s)
            if not writer.is_closing():
                await self._write(data, writer, up=up)

    async def _write(self, data: bytes, writer: asyncio.StreamWriter, *, up: bool) -> None:
        data = data if self._left is None else data[: self._left]
        self._count(len(data), up=up)
        with contextlib.suppress(OSError):
            writer.write(data)
            await writer.drain()
        if self._left is not None:
            self._left -= len(data)
            if self._left <= 0:
                self.reset()

    def _count(self, size: int, *, up: bool) -> None:
        if up:
            self._relay.up += size
        else:
            self._relay.down += size
