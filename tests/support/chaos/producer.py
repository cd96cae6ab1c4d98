"""A producer that knows exactly what was promised to it: which messages were acknowledged, under which sequence."""

from __future__ import annotations

import collections
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.support.chaos.bodies import FIELDS, STREAMS, body_of, kind_of

DEPTH = 64
_PATIENCE_S = 0.05


@dataclass
class Ledger:
    """accepted: (stream, sequence) → number. unanswered: numbers of which nobody knows; a hang-up came first.

    repeated: promises of a sequence that was promised before, which must not happen.
    """

    accepted: dict[tuple[str, int], int] = field(default_factory=dict)
    unanswered: set[int] = field(default_factory=set)
    repeated: list[tuple[str, int]] = field(default_factory=list)
    refused: collections.Counter[str] = field(default_factory=collections.Counter)
    hang_ups: int = 0


class Producer:
    """Pipelines messages until `messages` are accepted. rate: messages a second on average, in bursts."""

    def __init__(self, path: Path, *, device: str, messages: int, rate: float, seed: int) -> None:
        self._path = path
        self._device = device
        self._messages = messages
        self._rate = rate
        self._dice = random.Random(seed)
        self._under_way: collections.deque[int] = collections.deque()
        self._socket: socket.socket | None = None
        self._next = 1
        self._burst_until = 0
        self._resume_at = 0.0
        self.ledger = Ledger()
        self.rush = False
        """While true, as fast as answers come."""
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)

    def start(self) -> Producer:
        """Begin."""
        self._thread.start()
        return self

    @property
    def accepted(self) -> int:
        """Promises so far."""
        return len(self.ledger.accepted)

    @property
    def done(self) -> bool:
        """Whether all are accepted. Raises what went wrong in its thread."""
        if self.error is not None:
            raise self.error
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Give up."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self.accepted < self._messages and not self._stop.is_set():
                self._step()
        except BaseException as error:
            self.error = error
        finally:
            self._hang_up()

    def _step(self) -> None:
        try:
            sock = self._connected()
        except OSError:
            self._hang_up()
            time.sleep(_PATIENCE_S)
            return
        try:
            self._send(sock)
        except (BlockingIOError, TimeoutError):
            pass  # its buffer is full: first read answers
        except OSError:
            self._hang_up()
            return
        self._receive(sock)

    def _send(self, sock: socket.socket) -> None:
        while len(self._under_way) < DEPTH and self._may_send():
            sock.send(self._request(self._next), socket.MSG_DONTWAIT)
            self._under_way.append(self._next)
            self._next += 1

    def _may_send(self) -> bool:
        """In bursts of a few to a few hundred, at `rate` on average."""
        if self.accepted + len(self._under_way) >= self._messages:
            return False
        if self.rush or self._next < self._burst_until:
            return True
        if time.monotonic() < self._resume_at:
            return False
        size = self._dice.choice((1, 8, 64, 400))
        self._burst_until = self._next + size
        self._resume_at = max(self._resume_at, time.monotonic() - 1.0) + size / self._rate
        return True

    def _request(self, number: int) -> bytes:
        kind = kind_of(number)
        return msgspec.json.encode({"kind": kind, "id": number, FIELDS[kind]: body_of(number, self._device)})

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.settimeout(_PATIENCE_S)
            self._socket.connect(str(self._path))
        return self._socket

    def _receive(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(1 << 16)
            while data:
                self._answered(msgspec.json.decode(data))
                data = sock.recv(1 << 16, socket.MSG_DONTWAIT)
            self._hang_up()
        except (TimeoutError, BlockingIOError):
            return
        except OSError:
            self._hang_up()

    def _answered(self, answer: dict[str, object]) -> None:
        number = self._under_way.popleft()
        assert answer["id"] in (number, 0), f"answer {answer} where one to {number} was due"
        if answer["kind"] == "accepted":
            name = (str(answer.get("stream", STREAMS[kind_of(number)])), int(str(answer["sequence"])))
            if name in self.ledger.accepted:
                self.ledger.repeated.append(name)
            self.ledger.accepted[name] = number
        else:
            self.ledger.refused[str(answer.get("reason"))] += 1
            time.sleep(0.002)  # a full disk is asked again, but not a thousand times

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self.ledger.hang_ups += 1
        self.ledger.unanswered.update(self._under_way)
        self._under_way.clear()


def wait(condition: Callable[[], bool], *, what: str, within_s: float) -> None:
    """Fails with `what` when it does not come true in time."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"still waiting for: {what}"
        time.sleep(0.02)
