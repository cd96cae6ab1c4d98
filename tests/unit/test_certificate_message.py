"""The two messages of certificate renewal, against their vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from appliance.core.errors import DecodeError
from appliance.formats.certificate_message import (
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    decode_certificate_answer,
    decode_certificate_request,
    encode_certificate_answer,
    encode_certificate_request,
)
from appliance.formats.identity_state import RenewedAt, decode_renewed_at, encode_renewed_at
from builder.host.paths import source_root

VECTORS = json.loads((source_root() / "tests/vectors/certificate-renewal.json").read_text())
REFUSED = [
    *((decode_certificate_request, data, message) for data, message in VECTORS["refused_requests"]),
    *((decode_certificate_answer, data, message) for data, message in VECTORS["refused_answers"]),
]


def test_messages_are_as_in_the_vectors() -> None:
    for vector in VECTORS["requests"]:
        request = decode_certificate_request(vector["canonical"].encode())
        assert msgspec.to_builtins(request) == vector["value"]
        assert encode_certificate_request(request) == vector["canonical"].encode()
    for vector in VECTORS["answers"]:
        answer = decode_certificate_answer(vector["canonical"].encode())
        assert msgspec.to_builtins(answer) == vector["value"]
        assert encode_certificate_answer(answer) == vector["canonical"].encode()


@pytest.mark.parametrize(("decode", "data", "message"), REFUSED, ids=[row[2] for row in REFUSED])
def test_another_shape_is_refused_with_its_reason(decode: Callable[[bytes], Any], data: str, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data.encode("latin-1"))
    assert caught.value.message == message


def test_sizes_are_bounded() -> None:
    for decode, most in (
        (decode_certificate_request, MAX_REQUEST_BYTES),
        (decode_certificate_answer, MAX_ANSWER_BYTES),
    ):
        with pytest.raises(DecodeError, match=f"{most + 1} bytes, at most {most}$"):
            decode(bytes(most + 1))


def test_when_a_certificate_came_is_kept() -> None:
    renewed = RenewedAt("0" * 32, 77)
    assert decode_renewed_at(encode_renewed_at(renewed)) == renewed
    for data in (b"", b"{}", b"\xff", b'{"boot_id":"0","monotonic_us":1,"x":1}'):
        with pytest.raises(DecodeError, match=r"^renewed\.json: "):
            decode_renewed_at(data)
