"""An open file goes to the emulator over its control socket."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from builder.vm.qmp import Qmp
from tests.support.unix_server import unix_server

ANSWER = b'{"return": {}}\n'


def test_the_emulator_gets_the_file_and_its_name(tmp_path: Path) -> None:
    got: list[bytes] = []

    def emulator(connection: socket.socket) -> None:
        connection.sendall(b'{"QMP": {}}\n')
        connection.recv(4096)
        connection.sendall(ANSWER)
        data, [descriptor], _, _ = socket.recv_fds(connection, 4096, 1)
        got.append(os.read(descriptor, 100))
        os.close(descriptor)
        while not data.endswith(b"\n"):
            data += connection.recv(4096)
        got.append(data)
        connection.sendall(ANSWER)

    path = tmp_path / "file"
    path.write_bytes(b"content")
    with unix_server(tmp_path / "qmp", emulator):
        qmp = Qmp(tmp_path / "qmp", within_s=10, check=lambda: None)
        with path.open("rb") as stream:
            qmp.hand_over(stream.fileno(), "zone")
        qmp.close()
    assert got[0] == b"content"
    assert json.loads(got[1]) == {"execute": "getfd", "arguments": {"fdname": "zone"}}
