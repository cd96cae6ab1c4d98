"""The escrow of the recovery key: what is written, in which order, and what a power cut leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.recovery import verify_escrow
from appliance.recovery import service
from appliance.recovery.seal import load_recovery_key
from appliance.recovery.service import Settings, serve
from tests.support.keys import used_key

VECTOR = json.loads((Path(__file__).parent.parent / "vectors" / "recovery-escrow.json").read_text())
VOLUME = "2d6c1bd2-5a0c-4b9f-9d2e-6a6d0a5d7f10"
NAMES = [f"recovery-{VOLUME}.bin", f"recovery-{VOLUME}.json"]
OWNER = used_key(65537, 3072)


class Enroller:
    """Stands for systemd-cryptenroll. Each call makes another key; the volume then has only that one."""

    def __init__(self) -> None:
        self.slot = b""
        self.calls = 0

    def __call__(self, _device: Path) -> bytes:
        self.calls += 1
        self.slot = b"cbdefghi-jklnrtuv-%08d" % self.calls
        return self.slot


class PowerCut(BaseException):
    """Nothing after this instruction happens."""


@pytest.fixture
def enroller() -> Enroller:
    return Enroller()


@pytest.fixture
def settings(tmp_path: Path, enroller: Enroller) -> Settings:
    (tmp_path / "volume").write_bytes(bytes.fromhex(VECTOR["luks_header_hex"]).ljust(4096, b"\0"))
    (tmp_path / "esp" / "EFI").mkdir(parents=True)
    (tmp_path / "owner.pem").write_bytes(public_pem(OWNER))
    return Settings(
        volume=tmp_path / "volume",
        esp=tmp_path / "esp",
        public_key=tmp_path / "owner.pem",
        mark=tmp_path / "escrowed",
        audit_socket=str(tmp_path / "no-audit.sock"),
        enrol=enroller,
    )


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def escrowed(settings: Settings) -> bytes:
    """The recovery key, as the owner would open it."""
    directory = settings.esp / "EFI" / "edgeseal"
    assert sorted(path.name for path in directory.iterdir()) == NAMES
    ciphertext, description = ((directory / name).read_bytes() for name in NAMES)
    verify_escrow(description, ciphertext, volume=VOLUME)
    pad = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    return OWNER.decrypt(ciphertext, pad)


def test_the_owner_can_open_it_and_it_is_made_once(settings: Settings, enroller: Enroller) -> None:
    serve(settings)
    assert escrowed(settings) == enroller.slot
    assert settings.mark.read_text() == f"{VOLUME}\n"
    serve(settings)
    assert enroller.calls == 1


def cut_at(monkeypatch: pytest.MonkeyPatch, calls: int) -> Callable[[], None]:
    """Cut the power instead of the n-th durable write."""
    real = service.write_durable
    seen = 0

    def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        nonlocal seen
        seen += 1
        if seen == calls:
            raise PowerCut
        real(path, data, mode=mode)

    monkeypatch.setattr(service, "write_durable", write)
    return lambda: monkeypatch.setattr(service, "write_durable", real)


@pytest.mark.parametrize(("cut", "keys_made"), [(1, 2), (2, 2), (3, 1)], ids=["description", "ciphertext", "mark"])
def test_a_power_cut_leaves_one_key_that_is_escrowed(
    settings: Settings, enroller: Enroller, monkeypatch: pytest.MonkeyPatch, cut: int, keys_made: int
) -> None:
    power_on = cut_at(monkeypatch, cut)
    with pytest.raises(PowerCut):
        serve(settings)
    power_on()
    serve(settings)
    assert enroller.calls == keys_made
    assert escrowed(settings) == enroller.slot
    assert settings.mark.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_escrow_is_made_anew(settings: Settings, enroller: Enroller, name: str) -> None:
    serve(settings)
    damaged = settings.esp / "EFI" / "edgeseal" / name
    damaged.write_bytes(damaged.read_bytes()[:-1])
    serve(settings)
    assert enroller.calls == 2
    assert escrowed(settings) == enroller.slot


def test_a_new_volume_gets_its_own_escrow(settings: Settings, enroller: Enroller) -> None:
    serve(settings)
    other = VOLUME.replace("2d6c", "ffff")
    settings.volume.write_bytes(settings.volume.read_bytes().replace(VOLUME.encode(), other.encode()))
    serve(settings)
    assert enroller.calls == 2
    assert settings.mark.read_text() == f"{other}\n"


def test_a_plain_volume_needs_none(settings: Settings, enroller: Enroller) -> None:
    settings.volume.write_bytes(bytes(4096))
    serve(settings)
    assert enroller.calls == 0


def test_the_key_is_in_no_message(settings: Settings, capsys: pytest.CaptureFixture[str], enroller: Enroller) -> None:
    serve(settings)
    assert enroller.slot.decode() not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "recovery key: not a public key in PEM form"),
        (public_pem(ec.generate_private_key(ec.SECP256R1())), "recovery key: not an RSA key"),
        (
            public_pem(used_key(65537, 2048)),
            "recovery key: 2048 bits, at least 3072 are needed",
        ),
    ],
    ids=["empty", "EC", "short"],
)
def test_a_key_that_is_none(pem: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        load_recovery_key(pem)
    assert str(caught.value) == message


def test_a_failed_enrolment_leaves_no_escrow(settings: Settings) -> None:
    def fail(_device: Path) -> bytes:
        raise EdgesealError("the TPM says no")

    broken = Settings(
        settings.volume, settings.esp, settings.public_key, settings.mark, settings.audit_socket, enrol=fail
    )
    with pytest.raises(EdgesealError, match="the TPM says no"):
        serve(broken)
    assert list((settings.esp / "EFI" / "edgeseal").iterdir()) == []
    assert not settings.mark.exists()
