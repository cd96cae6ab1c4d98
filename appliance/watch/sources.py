"""Where the kernel's records come from: the audit system's multicast group, and the kernel's log."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.watch.messages import Message, decode_message
from appliance.watch.records import Record, decode_record

NETLINK_AUDIT, READLOG = 9, 1 << 0  # linux/audit.h: AUDIT_NLGRP_READLOG is the first group
HEADER_BYTES = 16
BUFFER_BYTES = 1 << 20
AT_ONCE = 256  # records of one round, so that the other source has its turn


@dataclass(frozen=True)
class Lost:
    """Records that were gone before they could be read. count: 0 for an unknown number."""

    source: str
    count: int


class AuditRecords:
    """Reads what the kernel's audit system says, without being its daemon. Needs CAP_AUDIT_READ."""

    name = "audit records"

    def __init__(self) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_AUDIT)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.bind((0, READLOG))

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def read(self) -> Iterator[Record | Lost]:
        """What is there now."""
        for _ in range(AT_ONCE):
            try:
                data, sender = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield Lost(self.name, 0)
                continue
            record = record_of(data, sender)
            if record is not None:
                yield record


def record_of(data: bytes, sender: tuple[int, int]) -> Record | None:
    """One datagram is one record. The length in its header is not looked at: kernels differ in what they count."""
    if sender[0] != 0 or len(data) < HEADER_BYTES:  # 0 is the kernel
        return None
    return decode_record(int.from_bytes(data[4:6], "little"), data[HEADER_BYTES:])


class KernelLog:
    """Reads /dev/kmsg from where the last reader of this boot stopped. Needs CAP_SYSLOG."""

    name = "log"

    def __init__(self, device: Path, position: Path) -> None:
        """position: a file that is gone after a boot. Raises OSError."""
        self._descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._position = position
        self._next = _stored(position)
        self._first = self._next == 0

    def fileno(self) -> int:
        """For select."""
        return self._descriptor

    def read(self) -> Iterator[Message | Lost]:
        """What is there now."""
        before = self._next
        for _ in range(AT_ONCE):
            try:
                data = os.read(self._descriptor, 1 << 14)
            except BlockingIOError:
                break
            except BrokenPipeError:  # overwritten meanwhile; the next read goes on with the oldest
                continue
            if not data:
                break
            yield from self._take(decode_message(data))
        if self._next != before:
            self._position.write_text(str(self._next))

    def _take(self, message: Message | None) -> Iterator[Message | Lost]:
        if message is None or message.sequence < self._next:
            return
        if message.sequence > self._next and not self._first:
            yield Lost(self.name, message.sequence - self._next)
        self._first = False
        self._next = message.sequence + 1
        yield message


def _stored(position: Path) -> int:
    try:
        return int(position.read_text())
    except (OSError, ValueError):
        return 0
