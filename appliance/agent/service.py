"""The test agent of development images: root on a virtio channel. Spec: docs/specs/agent-channel.md (v1)."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from appliance.agent.requests import carry_out, identity
from appliance.core.errors import DecodeError
from appliance.formats.agent import (
    AGENT_PORT_NAME,
    Answer,
    Hello,
    agent_splitter,
    decode_request,
    encode_agent_message,
)
from appliance.machine.notify import Notifier, say

PORTS = Path("/sys/class/virtio-ports")
PAUSE_S = 0.2
CHUNK = 32 << 10


def find_port(ports: Path) -> Path | None:
    """The device node of our port, by the name that the host gave it; udev need not run. None when there is none."""
    for port in sorted(ports.glob("vport*")):
        if (port / "name").read_text().strip() == AGENT_PORT_NAME:
            return Path("/dev") / port.name
    return None


def serve() -> None:
    """Serve until systemd ends us. A session ends when the host hangs up or says nonsense; then another one begins."""
    Notifier.from_environment().ready("waiting for a test")
    while True:
        port = find_port(PORTS)
        if port is not None:
            try:
                _open_and_serve(port)
            except (OSError, DecodeError) as error:
                say(f"<4>session ended: {error}")
        time.sleep(PAUSE_S)


def _open_and_serve(port: Path) -> None:
    descriptor = os.open(port, os.O_RDWR | os.O_CLOEXEC)
    try:
        boot_id, version, slot = identity()
        session(descriptor, Hello(boot_id=boot_id, image_version=version, slot=slot))
    finally:
        os.close(descriptor)


def session(descriptor: int, hello: Hello) -> None:
    """Say hello, then answer requests until the host hangs up. Raises OSError, DecodeError."""
    _write(descriptor, encode_agent_message(hello))
    splitter = agent_splitter()
    while True:
        body = splitter.take()
        if body is not None:
            _write(descriptor, _encode(carry_out(decode_request(body))))
            continue
        select.select([descriptor], [], [])
        data = os.read(descriptor, CHUNK)
        if not data:
            return
        splitter.feed(data)


def _encode(answer: Answer) -> bytes:
    """`result` may hold what JSON cannot say, and an answer may be too large: then that is the answer."""
    try:
        return encode_agent_message(answer)
    except (TypeError, ValueError, DecodeError) as error:
        return encode_agent_message(Answer(id=answer.id, ok=False, error=f"the answer cannot be sent: {error}"))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[:CHUNK]) :]
