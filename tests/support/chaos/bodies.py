"""What the producer hands in: a body is made from its number alone, so that a reader can make it again and compare."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Literal

Kind = Literal["verdict", "alarm", "audit"]

STREAMS: dict[str, str] = {"verdict": "data", "alarm": "alarm", "audit": "audit"}
FIELDS: dict[Kind, str] = {"verdict": "verdict", "alarm": "alarm", "audit": "part"}
"""Where the body stands in the request."""
EVERY = 100
"""One message in so many is an alarm, and one a part of an audit log."""

_BOOT = "0" * 32


def kind_of(number: int) -> Kind:
    """Which message has this number."""
    return "alarm" if number % EVERY == 0 else "audit" if number % EVERY == EVERY // 2 else "verdict"


def body_of(number: int, device: str) -> dict[str, Any]:
    """The message of this number, from 1."""
    if kind_of(number) == "audit":
        return _part(number, device)
    if kind_of(number) == "alarm":
        return {
            "schema": 1,
            "device": device,
            "boot_id": _BOOT,
            "name": "inference-degraded",
            "active": number // EVERY % 2 == 0,
            "text": f"number {number}",
            "monotonic_us": number,
        }
    return verdict_of(number, device)


def verdict_of(number: int, device: str) -> dict[str, Any]:
    """A verdict of this number, whatever kind_of says."""
    return {
        "schema": 1,
        "device": device,
        "boot_id": _BOOT,
        "start_us": 1,
        "sequence": number,
        "frame_sequence": str(number),
        "frame_sha256": hashlib.sha256(number.to_bytes(8)).hexdigest(),
        "label": "90",
        "score_ppm": number % 1_000_000,
        "model": "page-orientation",
        "model_sha256": "b" * 64,
        "execution_provider": "cpu",
        "latency_us": 1000 + number % 1000,
        "monotonic_us": 2000 + number,
    }


def number_of(body: dict[str, Any]) -> int | None:
    """Which number's body this is, word by word; None: of no number, so the uplink's own or damaged."""
    number = body.get("sequence") if "label" in body else body.get("size", body.get("monotonic_us"))
    if not isinstance(number, int) or number < 1 or body != body_of(number, str(body.get("device"))):
        return None
    return number


def _part(number: int, device: str) -> dict[str, Any]:
    """The last entry of a log of `number` entries, with a checkpoint that nobody signed."""
    origin = f"edgeseal.audit/{device}/00000000"
    root = base64.b64encode(hashlib.sha256(str(number).encode()).digest()).decode()
    return {
        "schema": 1,
        "device": device,
        "origin": origin,
        "start": number - 1,
        "entries": [base64.b64encode(f"entry {number}".encode()).decode()],
        "size": number,
        "checkpoint": f"{origin}\n{number}\n{root}\n\n\u2014 nobody {base64.b64encode(bytes(68)).decode()}\n",
        "consistency": [],
        "previous": 0,
    }
