"""Whatever a TPM answers: a value of the right shape, or an error of ours."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.anchor import Anchor
from appliance.audit.keys import p256_public
from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.machine.tpm import Tpm
from appliance.machine.tpm_signing import TpmKey, make_key, sign_digest

KEY = TpmKey(0x8000_0000, bytes(32), bytes(32))


def answering(body: bytes, code: int = 0) -> Tpm:
    """A TPM that answers this to everything."""
    return Tpm(lambda _: struct.pack(">HII", 0x8002, 10 + len(body), code) + body, pause=lambda _: None)


CALLS: list[Callable[[Tpm], object]] = [
    lambda tpm: make_key(tpm, "purpose"),
    lambda tpm: sign_digest(tpm, KEY, bytes(32)),
    lambda tpm: tpm.pcrs(16),
]


@given(st.sampled_from(CALLS), st.binary(max_size=200), st.sampled_from([0, 0x101, 0x18B, 0x922]))
def test_any_answer(call: Callable[[Tpm], object], body: bytes, code: int) -> None:
    with contextlib.suppress(EdgesealError):
        call(answering(body, code))


@pytest.mark.parametrize(
    ("call", "body", "message"),
    [
        (CALLS[0], b"", "TPM: the new key is cut short"),
        (CALLS[0], bytes(100), "TPM: the new key is not what was asked for"),
        (CALLS[1], b"", "TPM: the signature is cut short"),
        (CALLS[1], struct.pack(">IHH", 0, 0x14, 0x0B) + bytes(4), "TPM: the signature is of another kind"),
        (CALLS[1], struct.pack(">IHHH", 0, 0x18, 0x0B, 32), "TPM: a number is cut short"),
        (CALLS[2], b"", "TPM: the PCRs are cut short"),
        (CALLS[2], struct.pack(">IIHB", 0, 1, 0x04, 3) + bytes(7), "TPM: it has no SHA-256 bank of PCRs"),
        (CALLS[2], struct.pack(">IIHB", 0, 1, 0x0B, 3) + bytes(3) + bytes(4), "TPM: it has no SHA-256 bank of PCRs"),
        (
            CALLS[2],
            struct.pack(">IIHB", 0, 1, 0x0B, 3) + b"\x01\0\0" + struct.pack(">I", 2),
            "TPM: not as many PCRs as it says",
        ),
    ],
)
def test_answers_of_another_shape(call: Callable[[Tpm], object], body: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        call(answering(body))
    assert str(caught.value) == message


def test_a_point_that_is_not_on_the_curve() -> None:
    with pytest.raises(VerificationError, match=r"the TPM's public key is no point of P-256"):
        p256_public(b"\x01" * 32, b"\x02" * 32)


def test_a_damaged_anchor_is_no_first_start(tmp_path: Path) -> None:
    (tmp_path / "anchor.json").write_bytes(b'{"count":-1,"schema":1}\n')
    with pytest.raises(DecodeError, match="state of the audit log: "):
        Anchor(tmp_path, answering(b"", 0x18B)).look()
