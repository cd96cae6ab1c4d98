"""A block device of QEMU that logs every write and flush with blklogwrites, reached by NBD (the part that we need)."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from builder.host.sandbox import Sandbox
from tests.support.blocklog import Barrier, Event, Write

_OPTION_MAGIC = 0x49484156454F5054
_REQUEST, _REPLY = 0x25609513, 0x67446698
_WRITE, _DISCONNECT, _FLUSH = 1, 2, 3
_NEWSTYLE_NO_ZEROES = 3
_DEADLINE_S = 30


class NbdDisk:
    """A connection. Every request is answered before the next one is sent."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._shake_hands("disk")

    def write(self, event: Write) -> None:
        """One request."""
        self._ask(_WRITE, event.offset, len(event.data), event.data)

    def flush(self) -> None:
        """All that was written is durable."""
        self._ask(_FLUSH, 0, 0, b"")

    def close(self) -> None:
        """Hang up; the server ends the log."""
        self._socket.sendall(struct.pack(">IHHQQI", _REQUEST, 0, _DISCONNECT, 0, 0, 0))
        self._socket.close()

    def _shake_hands(self, name: str) -> None:
        magic, options, _flags = struct.unpack(">8sQH", self._receive(18))
        assert (magic, options) == (b"NBDMAGIC", _OPTION_MAGIC)
        self._socket.sendall(struct.pack(">IQII", _NEWSTYLE_NO_ZEROES, _OPTION_MAGIC, 1, len(name)) + name.encode())
        self._receive(10)  # size and flags of the export

    def _ask(self, kind: int, offset: int, length: int, data: bytes) -> None:
        self._socket.sendall(struct.pack(">IHHQQI", _REQUEST, 0, kind, 1, offset, length) + data)
        magic, error, _handle = struct.unpack(">IIQ", self._receive(16))
        assert (magic, error) == (_REPLY, 0), f"the disk refused a request: {error}"

    def _receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self._socket.recv(length - len(data))
            assert piece, "QEMU hung up"
            data += piece
        return data


def write_through_qemu(disk: Path, log: Path, events: Iterable[Event], tree: Sandbox) -> None:
    """Do `events` to the raw image `disk`, which is changed, and leave QEMU's log of them in `log`. One directory."""
    log.touch()
    with _serving(disk, log, tree) as sock:
        device = NbdDisk(sock)
        for event in events:
            if isinstance(event, Write):
                device.write(event)
            elif isinstance(event, Barrier):
                device.flush()
        device.close()


@contextlib.contextmanager
def _serving(disk: Path, log: Path, tree: Sandbox) -> Iterator[socket.socket]:
    path = disk.with_name("nbd")
    words: list[str | Path] = ["qemu-storage-daemon"]
    words += ["--blockdev", f"driver=file,node-name=file,filename={disk}"]
    words += ["--blockdev", f"driver=file,node-name=log,filename={log}"]
    words += ["--blockdev", "driver=blklogwrites,node-name=device,file=file,log=log"]
    words += ["--nbd-server", f"addr.type=unix,addr.path={path}"]
    words += ["--export", "type=nbd,id=export,node-name=device,name=disk,writable=on"]
    with subprocess.Popen(tree.command(words, writable=[disk.parent])) as process:
        try:
            with _connected(path, process) as sock:
                yield sock
        finally:
            process.terminate()
            process.wait(_DEADLINE_S)


def _connected(path: Path, process: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "QEMU's storage daemon ended"
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_DEADLINE_S)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            sock.connect(str(path))
            return sock
        sock.close()
        time.sleep(0.02)
    raise AssertionError("QEMU's storage daemon did not open its socket")
