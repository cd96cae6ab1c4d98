"""The small readers of the uplink against any bytes, and against the library that does it all."""

from __future__ import annotations

import contextlib
import functools
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given

from appliance.core.errors import DecodeError
from appliance.formats.certificate_message import decode_certificate_answer, decode_certificate_request
from appliance.uplink.certificate import pem_block, pem_certificates, read_certificate
from appliance.uplink.frames import MAX_PACKET, Frames, ProtocolError

USAGES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.OCSP_SIGNING)
CONNACK = b"\x20\x03\x00\x00\x00"


@functools.cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    names: list[str], start: datetime, life: timedelta, usages: tuple[x509.ObjectIdentifier, ...] | None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key().public_key())
        .serial_number(77)
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(key(), hashes.SHA256())


@given(
    st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=64), max_size=3),
    st.datetimes(datetime(1951, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001 (hypothesis wants them naive)
    st.timedeltas(timedelta(seconds=1), timedelta(days=4000)),
    st.none() | st.lists(st.sampled_from(USAGES), min_size=1, max_size=3, unique=True).map(tuple),
)
def test_a_certificate_is_read_as_the_library_reads_it(
    names: list[str], start: datetime, life: timedelta, usages: tuple[x509.ObjectIdentifier, ...] | None
) -> None:
    made = certificate(names, start.replace(tzinfo=UTC), life, usages)
    der = made.public_bytes(Encoding.DER)
    facts = read_certificate(der)
    assert facts.common_name == (names[0] if len(names) == 1 else None)
    assert facts.not_before == int(made.not_valid_before_utc.timestamp())
    assert facts.not_after == int(made.not_valid_after_utc.timestamp())
    assert facts.usages == (None if usages is None else frozenset(usage.dotted_string for usage in usages))
    assert facts.public_key == key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = pem_block(der, "CERTIFICATE")
    assert pem == made.public_bytes(Encoding.PEM)
    assert pem_certificates(b"words\n" + pem * 2) == (der, der)


@functools.cache
def whole() -> bytes:
    return certificate(["line-3"], datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=9), USAGES).public_bytes(
        Encoding.DER
    )


PLACE = st.integers(0, 10_000)  # of no certain length: a signature is a byte shorter now and then


@given(st.lists(st.tuples(PLACE, st.integers(0, 255)), min_size=1, max_size=5), st.none() | PLACE)
def test_a_damaged_certificate_is_refused_or_read_and_nothing_else(
    changes: list[tuple[int, int]], end: int | None
) -> None:
    der = bytearray(whole())
    for place, value in changes:
        der[place % len(der)] = value
    with contextlib.suppress(DecodeError):
        facts = read_certificate(bytes(der[: None if end is None else end % len(der)]))
        assert facts.usages is None or {usage.count(".") > 0 for usage in facts.usages} <= {True}


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    for decode in (read_certificate, pem_certificates, decode_certificate_answer, decode_certificate_request):
        with contextlib.suppress(DecodeError):
            decode(data)


PACKETS = (b"\xd0\x00", b"\x40\x02\x00\x07", b"\x30\x05\x00\x01a\x00x", b"\x32\x0a\x00\x01a\x00\x09\x00" + b"hell",
           b"\x90\x04\x00\x01\x00\x01", b"\x30\xc8\x01\x00\x01b\x00" + bytes(196))  # fmt: skip


@given(st.lists(st.sampled_from(PACKETS), max_size=20), st.lists(st.integers(1, 90), min_size=1, max_size=9))
def test_packets_are_the_same_however_the_stream_is_cut(packets: list[bytes], sizes: list[int]) -> None:
    stream = CONNACK + b"".join(packets)
    frames, found, at, turn = Frames(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        found += frames.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert found == [CONNACK, *packets]


@given(st.binary(max_size=300), st.integers(1, 64))
def test_noise_is_refused_or_kept_within_bounds(noise: bytes, size: int) -> None:
    frames = Frames()
    frames.feed(CONNACK)
    with contextlib.suppress(ProtocolError):
        for at in range(0, len(noise), size):
            frames.feed(noise[at : at + size])
    assert len(frames._rest) <= min(len(noise), MAX_PACKET + 5)
