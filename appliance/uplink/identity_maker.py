"""Makes a key without the service waiting for it: in a child, from a thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from appliance.core.errors import DecodeError, EdgesealError
from appliance.machine.exec import run
from appliance.uplink.certificate import pem_block, pem_blocks

_TIMEOUT_S = 120
PRIVATE, PUBLIC, REQUEST = "PRIVATE KEY", "PUBLIC KEY", "CERTIFICATE REQUEST"


def run_child(device: str) -> bytes:
    """A new identity of appliance.uplink.identity. Raises EdgesealError."""
    command = [sys.executable, "-I", "-m", "appliance.uplink.identity", device]
    return run(command, reason="make a new key", timeout_s=_TIMEOUT_S)


class IdentityMaker:
    """Makes one identity at a time."""

    def __init__(self, make: Callable[[str], bytes] = run_child) -> None:
        self._make = make
        self._thread: threading.Thread | None = None
        self._made: bytes | EdgesealError | None = None

    def take(self, device: str) -> bytes | None:
        """An identity when one is ready; else begin to make one, and None. Raises EdgesealError when that failed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(device,), name="identity", daemon=True)
            self._thread.start()
        if self._made is None:
            return None
        made, self._made, self._thread = self._made, None, None
        if isinstance(made, EdgesealError):
            raise made
        return made

    def _run(self, device: str) -> None:
        try:
            self._made = self._make(device)
        except EdgesealError as error:
            self._made = error
        except Exception as error:  # what is not told here would be asked for for ever
            self._made = EdgesealError(f"cannot make a new key: {type(error).__name__}")


def part_of(identity: bytes, label: str) -> bytes:
    """DER of PRIVATE, PUBLIC or REQUEST. Raises DecodeError."""
    blocks = pem_blocks(identity, label)
    if len(blocks) != 1:
        raise DecodeError(f"key: {len(blocks)} times {label} in it")
    return blocks[0]


def pem_of(identity: bytes, label: str) -> bytes:
    """As part_of, in PEM."""
    return pem_block(part_of(identity, label), label)
