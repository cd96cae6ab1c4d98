"""Where the checks of assertions are kept: id of the assertion -> what is wrong with a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.support.sparkplug_recording import Message, Recording

INT64, BOOLEAN, STRING = 4, 11, 12
KIND_OF = {INT64: "long", BOOLEAN: "boolean", STRING: "string"}
REBIRTH = "Node Control/Rebirth"
CLOCK_MS = 60_000  # how far a timestamp may be from the true time

Check = Callable[[Recording], Iterator[str]]
CHECKS: dict[str, Check] = {}


def clause(*ids: str) -> Callable[[Check], Check]:
    """ids: without the `tck-id-` that all have. One check may hold for several, as the specification repeats itself."""

    def register(check: Check) -> Check:
        for one in ids:
            assert f"tck-id-{one}" not in CHECKS
            CHECKS[f"tck-id-{one}"] = check
        return check

    return register


def wrong_flags(messages: list[Message], qos: int) -> Iterator[str]:
    """Those that are not of this QoS, or retained."""
    for message in messages:
        if (message.qos, message.retain) != (qos, False):
            yield f"{message.type} with QoS {message.qos}, retain {message.retain}"
