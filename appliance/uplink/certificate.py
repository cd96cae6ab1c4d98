"""What stands in an X.509 certificate, as far as the uplink has to know. Pure; RFC 5280 section 4.1, DER.

OpenSSL checks chains and signatures. This reads, so that the service needs no cryptographic library in memory for it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from appliance.core.errors import DecodeError

SERVER_AUTH: Final = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH: Final = "1.3.6.1.5.5.7.3.2"
_COMMON_NAME: Final = bytes.fromhex("0603550403")
_EXTENDED_KEY_USAGE: Final = bytes.fromhex("0603551d25")
_SEQUENCE, _BOOLEAN, _OID, _OCTETS, _UTC, _GENERALIZED, _VERSION, _EXTENSIONS = 48, 1, 6, 4, 23, 24, 160, 163
_TEXTS: Final = {12: "utf-8", 19: "ascii", 22: "ascii"}

Item = tuple[int, bytes, bytes]
"""(tag, contents, all of it)"""


@dataclass(frozen=True)
class Facts:
    """common_name: None unless there is exactly one. not_before, not_after: seconds since 1970, ends included.

    usages: extended key usages as dotted numbers; None where the certificate does not say.
    public_key: DER SubjectPublicKeyInfo.
    """

    common_name: str | None
    not_before: int
    not_after: int
    usages: frozenset[str] | None
    public_key: bytes


def pem_blocks(data: bytes, label: str) -> tuple[bytes, ...]:
    """The DER of every PEM block with this label, in order. Raises DecodeError when one is not base64."""
    mark = label.encode()
    found = re.findall(rb"-----BEGIN %b-----\s+([A-Za-z0-9+/=\s]+)-----END %b-----" % (mark, mark), data)
    try:
        return tuple(base64.b64decode(b"".join(block.split()), validate=True) for block in found)
    except binascii.Error as error:
        raise DecodeError(f"{label.lower()}: not PEM: {error}") from error


def pem_certificates(data: bytes) -> tuple[bytes, ...]:
    """The DER of every certificate in PEM `data`, in order. Raises DecodeError when there is none."""
    found = pem_blocks(data, "CERTIFICATE")
    if not found:
        raise DecodeError("certificate: no PEM certificate in it")
    return found


def pem_block(der: bytes, label: str) -> bytes:
    """As PEM, RFC 7468."""
    text, mark = base64.b64encode(der), label.encode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (mark, b"\n".join(lines), mark)


def read_certificate(der: bytes) -> Facts:
    """Raises DecodeError on anything that is not a certificate."""
    try:
        return _facts(der)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise DecodeError(f"certificate: not DER of a certificate: {error}") from error


def _facts(der: bytes) -> Facts:
    [whole] = _items(der)
    body = next(_items(_inside(whole, _SEQUENCE)))
    fields = [item for item in _items(_inside(body, _SEQUENCE)) if item[0] != _VERSION]
    validity, subject, key = fields[3], fields[4], fields[5]
    start, end = (_seconds(item) for item in _items(_inside(validity, _SEQUENCE)))
    extensions = [item for item in fields[6:] if item[0] == _EXTENSIONS]
    return Facts(
        common_name=_common_name(_inside(subject, _SEQUENCE)),
        not_before=start,
        not_after=end,
        usages=_usages(extensions[0][1]) if extensions else None,
        public_key=key[2],
    )


def _items(data: bytes) -> Iterator[Item]:
    at = 0
    while at < len(data):
        tag, length, begin = data[at], data[at + 1], at + 2
        if length > 127:
            count = length & 127
            if not 1 <= count <= 3:
                raise ValueError(f"a length of {count} bytes")
            length, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
        if begin + length > len(data):
            raise ValueError("cut off")
        yield tag, data[begin : begin + length], data[at : begin + length]
        at = begin + length


def _inside(item: Item, tag: int) -> bytes:
    if item[0] != tag:
        raise ValueError(f"tag {item[0]} where {tag} was expected")
    return item[1]


def _common_name(subject: bytes) -> str | None:
    names = []
    for part in _items(subject):
        for attribute in _items(part[1]):
            kind, value = _items(attribute[1])
            if kind[2] == _COMMON_NAME:
                names.append(value[1].decode(_TEXTS.get(value[0], "ascii")))
    return names[0] if len(names) == 1 else None


def _usages(extensions: bytes) -> frozenset[str] | None:
    for extension in _items(_inside(next(_items(extensions)), _SEQUENCE)):
        fields = list(_items(extension[1]))
        if fields[0][2] == _EXTENDED_KEY_USAGE:
            [usages] = _items(_inside(fields[-1], _OCTETS))
            return frozenset(_dotted(_inside(item, _OID)) for item in _items(_inside(usages, _SEQUENCE)))
    return None


def _dotted(oid: bytes) -> str:
    numbers, value = [oid[0] // 40, oid[0] % 40], 0
    for byte in oid[1:]:
        value = value << 7 | byte & 127
        if byte < 128:
            numbers.append(value)
            value = 0
    return ".".join(map(str, numbers))


def _seconds(item: Item) -> int:
    text = item[1].decode("ascii")
    if item[0] == _UTC:  # two digits of the year: 4.1.2.5.1
        text = ("19" if text[:2] >= "50" else "20") + text
    elif item[0] != _GENERALIZED:
        raise ValueError(f"tag {item[0]} where a time was expected")
    return int(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())
