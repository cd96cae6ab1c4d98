"""Making keys: what is written, how it is marked, and that nothing is half-written or overwritten."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from appliance.core.errors import EdgesealError, InputError
from builder.signing import keyinit
from builder.signing.certificates import check_signature, is_development, self_signed
from builder.signing.descriptor import Secret
from builder.signing.keyinit import init_keys
from builder.signing.keyset import load_keys
from builder.signing.roles import Role
from tests.support.keys import MOMENT, keys_at, keyset, used_key


def test_every_role_has_a_key_only_its_owner_can_read() -> None:
    directory = keys_at()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    private = {f"{role.value}.key": 0o600 for role in Role}
    assert modes == private | {f"{role.value}.crt": 0o644 for role in Role} | {"keys.json": 0o644}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_modes_do_not_depend_on_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsa, "generate_private_key", used_key)
    before = keyinit.os.umask(0)
    try:
        init_keys(tmp_path / "keys", development=True, now=MOMENT)
    finally:
        keyinit.os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys/db.key").stat().st_mode) == 0o600


def test_certificates_are_self_signed_and_last_twenty_years() -> None:
    for role in Role:
        certificate = keyset().certificate(role)
        check_signature(certificate, certificate.signature, certificate.tbs_certificate_bytes, what=role.value)
        assert certificate.issuer == certificate.subject
        assert certificate.not_valid_before_utc == MOMENT
        assert certificate.not_valid_after_utc == MOMENT.replace(year=MOMENT.year + 20)
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.digital_signature, usage.key_encipherment) == (role.signs, not role.signs)


def test_key_sizes_are_what_firmware_and_tpm_can_verify() -> None:
    sizes = {role: keyset().certificate(role).public_key().key_size for role in Role}
    assert {role for role, bits in sizes.items() if bits == 2048} == {Role.PK, Role.KEK, Role.DB, Role.PCR}
    assert sizes[Role.RECOVERY] == sizes[Role.PROVENANCE] == 3072


def test_development_keys_say_so_and_release_keys_do_not() -> None:
    assert all(is_development(keyset().certificate(role)) for role in Role)
    assert not any(is_development(keyset("release").certificate(role)) for role in Role)
    assert keyset().certificate(Role.DB).subject.rfc4514_string() == (
        "CN=edgeseal DEVELOPMENT db,O=edgeseal DEVELOPMENT"
    )
    assert keyset("release").certificate(Role.DB).subject.rfc4514_string() == "CN=edgeseal db,O=edgeseal"


@pytest.mark.parametrize("part", ["organisation", "common name", "comment"])
def test_one_mark_is_enough_to_be_a_development_key(part: str) -> None:
    certificate = keyset().certificate(Role.DB)
    name = {"organisation": x509.NameOID.ORGANIZATION_NAME, "common name": x509.NameOID.COMMON_NAME}.get(part)
    builder = x509.CertificateBuilder(
        issuer_name=certificate.issuer,
        subject_name=x509.Name(
            [x509.NameAttribute(oid, "edgeseal DEVELOPMENT" if oid == name else "edgeseal") for oid in _NAMES]
        ),
        public_key=certificate.public_key(),
        serial_number=1,
        not_valid_before=MOMENT,
        not_valid_after=MOMENT + timedelta(days=1),
    )
    if part == "comment":
        (comment,) = [e for e in certificate.extensions if e.oid.dotted_string == "2.16.840.1.113730.1.13"]
        builder = builder.add_extension(comment.value, critical=False)
    key = used_key(65537, 2048)
    assert is_development(builder.sign(key, keyinit.hashes.SHA256()))


_NAMES = (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME)


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        (datetime(2028, 2, 29, tzinfo=UTC), datetime(2048, 2, 28, tzinfo=UTC)),
        (datetime(2040, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)),  # beyond UTCTime
        (datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), datetime(2045, 12, 31, 23, tzinfo=UTC)),
    ],
)
def test_validity_at_the_edges_of_the_calendar(now: datetime, ends: datetime) -> None:
    certificate = self_signed(
        Role.DB,
        used_key(65537, 2048).public_key(),
        lambda data: bytes(256),
        organisation="o",
        development=False,
        now=now,
        serial=1,
    )
    assert certificate.not_valid_after_utc == ends


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InputError) as refused:
        init_keys(tmp_path, development=True, now=MOMENT)
    assert str(refused.value) == f"{tmp_path}: there is something here already; keys are never overwritten"
    assert refused.value.hint == "name another place with --directory, or move the old keys away"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


@pytest.mark.parametrize("after", range(14))
def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Six roles, two files each, keys.json and the directory itself: thirteen durable steps and one rename."""
    steps = iter(range(100))
    real_write, real_sync = keyinit.write_durable, keyinit.fsync_directory

    def interrupt(call: object, *arguments: object, **named: object) -> None:
        if next(steps) == after:
            raise KeyboardInterrupt
        call(*arguments, **named)  # type: ignore[operator]

    monkeypatch.setattr(keyinit, "write_durable", lambda *a, **k: interrupt(real_write, *a, **k))
    monkeypatch.setattr(keyinit, "fsync_directory", lambda *a, **k: interrupt(real_sync, *a, **k))
    monkeypatch.setattr(rsa, "generate_private_key", used_key)
    with pytest.raises(KeyboardInterrupt):
        init_keys(tmp_path / "keys", development=True, now=MOMENT)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgesealError) as refused:
        init_keys(tmp_path / "file" / "keys", development=True, now=MOMENT)
    assert str(refused.value) == f"{tmp_path}/file/keys: cannot make keys: File exists"


def test_a_release_organisation_may_not_look_like_development(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'a DEVELOPMENT shop' would mark release keys as development keys"):
        init_keys(tmp_path / "keys", development=False, now=MOMENT, organisation="a DEVELOPMENT shop")
    assert not (tmp_path / "keys").exists()


def test_encrypted_release_keys_open_with_their_passphrase_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsa, "generate_private_key", used_key)
    directory, secret = tmp_path / "keys", Secret(environment="PHRASE")
    init_keys(directory, development=False, now=MOMENT, passphrase=secret, environment={"PHRASE": "right"})
    assert all(b"ENCRYPTED" in (directory / f"{role.value}.key").read_bytes() for role in Role)
    load_keys(directory, environment={"PHRASE": "right"}).signer(Role.DB).sign(b"x")
    with pytest.raises(InputError, match=r"private pk key: the passphrase is wrong"):
        load_keys(directory, environment={"PHRASE": "wrong"})
    with pytest.raises(InputError, match=r"the environment variable PHRASE is not set"):
        load_keys(directory, environment={})
