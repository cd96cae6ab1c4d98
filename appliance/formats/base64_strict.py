"""Base64 of RFC 4648 section 4 in exactly one form: padded, no white space, no bits left over."""

from __future__ import annotations

import base64
import binascii

from appliance.core.errors import DecodeError


def encode_base64(data: bytes) -> str:
    """With padding."""
    return base64.b64encode(data).decode()


def decode_base64(text: str, what: str) -> bytes:
    """Raises DecodeError, which begins with `what`, on anything that encode_base64 would not have written."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(f"{what}: not base64") from error
    if encode_base64(data) != text:
        raise DecodeError(f"{what}: not base64 in its one form")
    return data


def decode_hash(text: str, what: str) -> bytes:
    """The same, of a SHA-256."""
    data = decode_base64(text, what)
    if len(data) != 32:
        raise DecodeError(f"{what}: {len(data)} bytes, a SHA-256 has 32")
    return data


def decode_number(text: str, what: str) -> int:
    """ASCII decimal without leading zeroes, below 2^63. Raises DecodeError."""
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0"):
        raise DecodeError(f"{what}: `{text[:40]}` is not a decimal number without leading zeroes")
    if len(text) > 19 or int(text) >= 2**63:
        raise DecodeError(f"{what}: {text[:40]} is 2^63 or more")
    return int(text)
