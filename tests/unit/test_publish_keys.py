"""Keys of a repository: made, described, opened; every refusal with its exact message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.core.canonical import canonical_json
from appliance.core.errors import InputError
from builder.publish.devkeys import development_roles
from builder.publish.keys import Keyring, holder_of, is_development, make_key, open_signer, read_key
from builder.signing.descriptor import Secret

ENVIRONMENT = {"PHRASE": "three small words", "OTHER": "two words"}
PHRASE = Secret(environment="PHRASE")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The description of an encrypted key."""
    make_key(tmp_path / "keys/anna.json", holder="Anna A.", passphrase=PHRASE, environment=ENVIRONMENT)
    return tmp_path / "keys/anna.json"


def test_a_key_signs_and_nothing_secret_is_described(file: Path) -> None:
    key = read_key(file)
    signer = open_signer(key, environment=ENVIRONMENT)
    key.key.verify_signature(signer.sign(b"data"), b"data")
    assert (key.holder, key.development, key.key.scheme) == ("Anna A.", False, "ed25519")
    assert json.loads(file.read_bytes())["private"] == {"kind": "file", "passphrase": {"environment": "PHRASE"}}
    assert b"ENCRYPTED" in file.with_suffix(".key").read_bytes()
    assert file.with_suffix(".key").stat().st_mode & 0o777 == 0o600
    assert "three small words" not in file.read_text()


def test_development_keys_are_marked_in_what_is_signed(tmp_path: Path) -> None:
    roles = development_roles(tmp_path)
    assert {role: (len(keys.keys), keys.threshold) for role, keys in roles.items()} == {
        "root": (3, 2),
        "targets": (3, 2),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    assert all(is_development(key) for keys in roles.values() for key in keys.keys)
    assert roles["root"].keys[0].to_dict()["x-edgeseal-development"] is True
    assert development_roles(tmp_path) == roles


def test_a_release_key_among_development_keys_is_refused(tmp_path: Path) -> None:
    make_key(tmp_path / "root-1.json", holder="root-1")
    with pytest.raises(InputError) as refused:
        development_roles(tmp_path)
    assert str(refused.value) == f"{tmp_path}/root-1.json: this key is not marked as a development key"


def test_a_ring_opens_what_is_here(file: Path, tmp_path: Path) -> None:
    (file.parent / "root.json").write_text("a trusted root, no key")
    other = make_key(tmp_path / "other/bob.json", holder="bob")
    ring = Keyring(file.parent, environment=ENVIRONMENT)
    assert [holder_of(signer.public_key) for signer in ring.signers([other.key, read_key(file).key])] == ["Anna A."]
    value = json.loads(file.read_bytes()) | {"private": {"kind": "absent"}}
    file.write_bytes(canonical_json(value))
    assert Keyring(file.parent, environment=ENVIRONMENT).signers([read_key(file).key]) == []
    assert Keyring(tmp_path / "nothing").signers([other.key]) == []


def _describe(**changes: object) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(canonical_json(json.loads(file.read_bytes()) | changes))


def _private(**source: object) -> Callable[[Path], object]:
    return _describe(private=source)


def _other_key(file: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.with_suffix(".key").write_bytes(pem)
    _private(kind="file")(file)


REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    ("no description", Path.unlink, "{file}: there is no such key"),
    ("no JSON", lambda file: file.write_text("{"), "{file}: not the description of a key: Input data was truncated"),
    (
        "an unknown key in it",
        _describe(more=1),
        "{file}: not the description of a key: Object contains unknown field `more`",
    ),
    (
        "a holder that is none",
        _describe(holder="a\nb"),
        "{file}: not the description of a key: Expected `str` matching regex "
        "'^[A-Za-z0-9][A-Za-z0-9 ._@-]{{0,63}}(?!\\\\n)$' - at `$.holder`",
    ),
    ("no public key", _describe(public="x"), "{file}: the public key is not a PEM public key"),
    (
        "two places for the secret",
        _private(kind="file", passphrase={"file": "a", "environment": "B"}),
        "{file}: name either a `file` or an `environment` variable for the secret",
    ),
    ("absent", _private(kind="absent"), "{file}: the private key of Anna A. is not here, only its public half"),
    (
        "no key file",
        lambda file: file.with_suffix(".key").unlink(),
        "{key}: private key of Anna A.: there is no such file",
    ),
    (
        "a key file that others can read",
        lambda file: file.with_suffix(".key").chmod(0o640),
        "{key}: private key of Anna A.: others can read it (mode 0640)",
    ),
    (
        "no passphrase named",
        _private(kind="file"),
        "{key}: private key of Anna A.: it is encrypted",
    ),
    (
        "the variable is not set",
        _private(kind="file", passphrase={"environment": "UNSET"}),
        "{file}: passphrase of Anna A.: the environment variable UNSET is not set",
    ),
    (
        "the passphrase is wrong",
        _private(kind="file", passphrase={"environment": "OTHER"}),
        "{key}: private key of Anna A.: the passphrase is wrong",
    ),
    (
        "no passphrase file",
        _private(kind="file", passphrase={"file": "phrase"}),
        "{dir}/phrase: passphrase of Anna A.: there is no such file",
    ),
    (
        "no key in the key file",
        lambda file: file.with_suffix(".key").write_bytes(b"x"),
        "{key}: private key of Anna A.: not a PKCS#8 PEM key",
    ),
    ("another's key", _other_key, "{key}: private key of Anna A.: it does not belong to its description"),
]


@pytest.mark.parametrize(("break_it", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_key_that_cannot_be_used(file: Path, break_it: Callable[[Path], object], message: str) -> None:
    break_it(file)
    with pytest.raises(InputError) as refused:
        open_signer(read_key(file), environment=ENVIRONMENT)
    assert str(refused.value) == message.format(file=file, key=file.with_suffix(".key"), dir=file.parent)


def test_keys_are_never_overwritten(file: Path) -> None:
    before = file.read_bytes(), file.with_suffix(".key").read_bytes()
    with pytest.raises(InputError) as refused:
        make_key(file, holder="anna")
    assert str(refused.value) == f"{file}: there is a key here already; keys are never overwritten"
    assert (file.read_bytes(), file.with_suffix(".key").read_bytes()) == before
