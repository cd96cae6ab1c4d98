"""Reason codes of a broker in words, MQTT 5 sections 3.2.2.2 and 3.14.2.1.

A server that we are sent to is never followed: which brokers there are is the site's to say, in credentials.
"""

from __future__ import annotations

from typing import Final

from appliance.uplink.opening import EndedError

TAKEN_OVER: Final = 0x8E
_REDIRECTS: Final = {0x9C: "another server for now", 0x9D: "another server for good"}
_NOT_US: Final = (0x85, 0x86, 0x87, 0x8A, 0x8C)  # client identifier, password, authorisation, banned, method


def ending(code: int, name: str, what: str) -> EndedError:
    """The end of a connection with this code. name: the code's in the specification. what: the broker did."""
    named = f"{name} (0x{code:02x})"
    if code in _REDIRECTS:
        return EndedError(f"{what} and named {_REDIRECTS[code]}, which we do not follow: {named}")
    if code == TAKEN_OVER:
        return EndedError(f"another client connected with our name: {named}")
    return EndedError(f"{what}: {named}", ours=code in _NOT_US)
