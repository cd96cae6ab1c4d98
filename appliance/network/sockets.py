"""The kernel's netlink sockets of the service: who changed the ruleset, and what was dropped."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.core.errors import DecodeError, EdgesealError
from appliance.network import nflog
from appliance.network.netlink import (
    ACK,
    ERROR,
    REQUEST,
    Message,
    decode_messages,
    encode_message,
    error_of,
    netfilter_attributes,
    number_of,
)

NETLINK_NETFILTER = 12
NFTABLES_EVENTS = 1 << 7 - 1  # NFNLGRP_NFTABLES as bit
_NFTABLES = 10 << 8
_NEW_GENERATION, _GET_GENERATION = _NFTABLES | 15, _NFTABLES | 16
_GEN_ID, _GEN_PID, _GEN_NAME = 1, 2, 3
_BUFFER = 1 << 20
_LARGEST = 64 << 10
_ANSWER_S = 10.0
_DATAGRAMS_PER_ROUND = 256  # so that no sender keeps us from the rest


@dataclass(frozen=True)
class Committer:
    """A process that changed the ruleset, as the kernel names it."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


class GenerationSocket:
    """Which generation the ruleset is; each committed transaction makes a new one (nf_tables_commit)."""

    def __init__(self) -> None:
        self._requests = _netlink(0)
        self._events = _netlink(NFTABLES_EVENTS)
        self._sequence = 0

    def fileno(self) -> int:
        """Readable when somebody, we too, changed a ruleset."""
        return self._events.fileno()

    def generation(self) -> int:
        """The current one. Raises EdgesealError."""
        self._sequence += 1
        self._requests.send(encode_message(_GET_GENERATION, REQUEST, self._sequence))
        answer = _answer(self._requests, self._sequence)
        number = number_of(netfilter_attributes(answer), _GEN_ID, size=4)
        if answer.type != _NEW_GENERATION or number is None:
            raise DecodeError("netlink: the kernel did not tell its generation")
        return number

    def changes(self) -> list[Committer]:
        """Empty the buffer of events: who committed. What did not fit into the buffer is missing."""
        found = []
        for datagram in _datagrams(self._events):
            for message in decode_messages(datagram or b""):
                if message.type == _NEW_GENERATION:
                    attributes = netfilter_attributes(message)
                    name = attributes.get(_GEN_NAME, b"").rstrip(b"\0").decode("ascii", "replace")
                    found.append(Committer(number_of(attributes, _GEN_PID, size=4) or 0, name))
        return found

    def close(self) -> None:
        """Hang up."""
        self._requests.close()
        self._events.close()


@dataclass(frozen=True)
class DropsRead:
    """What one round found. unreadable: datagrams that are not in the kernel's format. overrun: some were lost."""

    logged: tuple[nflog.Logged, ...]
    unreadable: int
    overrun: bool


class DropSocket:
    """The listener of the ruleset's nflog group. Raises EdgesealError when another process has the group."""

    def __init__(self) -> None:
        self._socket = _netlink(0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        try:
            for number, attributes in enumerate(nflog.configuration(), 1):
                self._socket.send(
                    encode_message(nflog.CONFIG, REQUEST | ACK, number, number=nflog.GROUP, attributes=attributes)
                )
                _answer(self._socket, number)
        except EdgesealError as error:
            self._socket.close()
            hint = "another process listens, or CAP_NET_ADMIN is missing"
            raise EdgesealError(f"group {nflog.GROUP} of the packet log: {error}", hint=hint) from error

    def fileno(self) -> int:
        """Readable when packets were dropped."""
        return self._socket.fileno()

    def read(self) -> DropsRead:
        """All that is there, up to a bound."""
        logged: list[nflog.Logged] = []
        unreadable, overrun = 0, False
        for datagram in _datagrams(self._socket):
            if datagram is None:
                overrun = True
                continue
            try:
                logged += nflog.decode_log(datagram)
            except DecodeError:
                unreadable += 1
        return DropsRead(tuple(logged), unreadable, overrun)

    def close(self) -> None:
        """Hang up: the kernel forgets the group's listener."""
        self._socket.close()


def interface_name(index: int) -> str:
    """Its name now; empty for none, its number where it is gone."""
    if index == 0:
        return ""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"


def _netlink(groups: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        made.bind((0, groups))
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise EdgesealError(f"cannot listen to the packet filter: {error.strerror}") from error
    return made


def _datagrams(source: socket.socket) -> Iterator[bytes | None]:
    """What is there; None where the kernel had no room for more (ENOBUFS). Only what the kernel itself sent."""
    for _ in range(_DATAGRAMS_PER_ROUND):
        try:
            datagram, sender = source.recvfrom(_LARGEST)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise EdgesealError(f"cannot listen to the packet filter: {error.strerror}") from error
            yield None
            continue
        if sender[0] == 0:
            yield datagram


def _answer(source: socket.socket, sequence: int) -> Message:
    """The answer to one request. Raises EdgesealError when it is an error, or none comes."""
    while select.select([source], [], [], _ANSWER_S)[0]:
        for datagram in _datagrams(source):
            for message in decode_messages(datagram or b""):
                if message.sequence != sequence:
                    continue
                code = error_of(message) if message.type == ERROR else 0
                if code:
                    raise EdgesealError(f"the packet filter refused a request: {os.strerror(code)}")
                return message
    raise EdgesealError(f"the packet filter did not answer within {_ANSWER_S:.0f} s")
