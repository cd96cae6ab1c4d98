"""Whatever the bytes, a verifier raises its own error and nothing else."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError, VerificationError
from builder.signing.authenticode import sign_pe, verify_pe
from builder.signing.cms import sign_attached, verify_cms
from builder.signing.descriptor import decode_descriptor
from builder.signing.dsse import sign_envelope, verify_envelope
from builder.signing.pcrpolicy import measure_uki, pcr_signature, verify_pcr_policy
from builder.signing.pe import parse_pe
from builder.signing.roles import Role
from tests.support.effort import examples
from tests.support.keys import keys_at, keyset
from tests.support.pe import tiny_pe

CERTIFICATES = [keyset().certificate(Role.DB)]
SIGNER = keyset().signer(Role.DB)
IMAGE = sign_pe(tiny_pe({".text": b"code"}), SIGNER)
MEASURED = measure_uki({".linux": b"k"})


def _mangled(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` with a stretch of it replaced, dropped or doubled; or something else altogether."""
    cut = st.tuples(st.integers(0, len(data)), st.integers(0, 40), st.binary(max_size=40))
    return st.one_of(cut.map(lambda c: data[: c[0]] + c[2] + data[c[0] + c[1] :]), st.binary(max_size=200))


@given(_mangled(IMAGE))
@examples(200)
def test_pe(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        parse_pe(data)
    if data != IMAGE:
        with contextlib.suppress(DecodeError, VerificationError):
            verify_pe(data, CERTIFICATES)
            raise AssertionError("it verified")


@given(_mangled(sign_attached(b"policy", SIGNER)))
@examples(200)
def test_cms(data: bytes) -> None:
    with contextlib.suppress(VerificationError):
        assert verify_cms(data, None, CERTIFICATES) == b"policy"
        assert data == sign_attached(b"policy", SIGNER)


@given(_mangled(sign_envelope("text/plain", b"hello", SIGNER)))
@examples(200)
def test_dsse(data: bytes) -> None:
    with contextlib.suppress(VerificationError):
        assert verify_envelope(data, "text/plain", CERTIFICATES) == b"hello"
        assert data == sign_envelope("text/plain", b"hello", SIGNER)


@given(_mangled(pcr_signature(MEASURED, SIGNER)))
@examples(200)
def test_pcr_policy(data: bytes) -> None:
    with contextlib.suppress(VerificationError):
        verify_pcr_policy(data, MEASURED, CERTIFICATES[0])
        assert data == pcr_signature(MEASURED, SIGNER)


@given(_mangled((keys_at() / "keys.json").read_bytes()))
@examples(200)
def test_descriptor(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode_descriptor(data, file="keys.json")
