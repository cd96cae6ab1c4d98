"""Loading keys: every way they can be wrong, with the exact message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.core.errors import InputError
from builder.host.paths import source_root
from builder.signing.descriptor import AbsentKey, FileKey, Secret, decode_descriptor, encode_descriptor
from builder.signing.keyfiles import private_key_pem, read_private_key
from builder.signing.keyset import PublicKeys, export_public, load_keys, load_public_keys, require_release
from builder.signing.roles import Role
from tests.support.keys import keys_at, keyset


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A private copy of development keys."""
    return Path(shutil.copytree(keys_at(), tmp_path / "keys"))


def _describe(directory: Path, role: Role, entry: object) -> None:
    path = directory / "keys.json"
    document = json.loads(path.read_text())
    document["keys"][role.value] = entry
    path.write_text(json.dumps(document))


def _other_key(directory: Path) -> None:
    shutil.copy(keys_at("other") / "db.key", directory / "db.key")


def _ed25519_key(directory: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "db.key").write_bytes(pem)


def _directory_instead_of(name: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / name).unlink()
        (directory / name).mkdir()

    return change


_TOKEN = {"kind": "pkcs11", "module": "/usr/lib/none.so", "token": "t", "label": "db"}

# what is done to the directory, the file in the message, the message, the hint ("{}" is the directory)
WRONG: list[tuple[Callable[[Path], object], str, str, str | None]] = [
    (lambda d: (d / "db.key").unlink(), "/db.key", "private db key: there is no such file", None),
    (_directory_instead_of("db.key"), "/db.key", "private db key: cannot be read: Is a directory", None),
    (
        lambda d: (d / "db.key").chmod(0o640),
        "/db.key",
        "private db key: others can read it (mode 0640)",
        "chmod 600 {}/db.key",
    ),
    (
        lambda d: (d / "pcr.key").chmod(0o604),
        "/pcr.key",
        "private pcr key: others can read it (mode 0604)",
        "chmod 600 {}/pcr.key",
    ),
    (lambda d: (d / "db.key").write_text("no"), "/db.key", "private db key: not a PKCS#8 PEM key", None),
    (_ed25519_key, "/db.key", "private db key: not an RSA key", None),
    (_other_key, "/db.key", "the private key does not belong to its certificate", None),
    (lambda d: (d / "kek.crt").unlink(), "/kek.crt", "the kek certificate is missing", None),
    (_directory_instead_of("kek.crt"), "/kek.crt", "the kek certificate cannot be read: Is a directory", None),
    (lambda d: (d / "kek.crt").write_text("no"), "/kek.crt", "the kek certificate is not a PEM certificate", None),
    (
        lambda d: shutil.copy(d / "recovery.crt", d / "db.crt"),
        "/db.crt",
        "the db key has 3072 bits instead of 2048",
        None,
    ),
    (lambda d: (d / "keys.json").unlink(), "", "there are no keys", "make keys: edgeseal keys init --dev"),
    (_directory_instead_of("keys.json"), "/keys.json", "cannot be read: Is a directory", None),
    (
        lambda d: (d / "keys.json").write_text("{"),
        "/keys.json",
        "Input data was truncated",
        "see docs/reference/keys.md",
    ),
    (
        lambda d: (d / "keys.json").write_text('{"schema":2,"keys":{}}'),
        "/keys.json",
        "Invalid enum value 2 - at `$.schema`",
        "see docs/reference/keys.md",
    ),
    (
        lambda d: _describe(d, Role.DB, {"kind": "file", "pasphrase": {"file": "x"}}),
        "/keys.json",
        "Object contains unknown field `pasphrase` - at `$.keys[...]`",
        "see docs/reference/keys.md",
    ),
    (
        lambda d: _describe(d, Role.DB, {"kind": "floppy"}),
        "/keys.json",
        "Invalid value 'floppy' - at `$.keys[...].kind`",
        "see docs/reference/keys.md",
    ),
    (
        lambda d: _describe(d, Role.DB, _TOKEN),
        "/keys.json",
        "Object missing required field `pin` - at `$.keys[...]`",
        "see docs/reference/keys.md",
    ),
    (
        lambda d: _describe(d, Role.DB, _TOKEN | {"pin": {}}),
        "/keys.json",
        "keys.db: name either a `file` or an `environment` variable for the secret",
        None,
    ),
    (
        lambda d: _describe(d, Role.DB, _TOKEN | {"pin": {"file": "a", "environment": "B"}}),
        "/keys.json",
        "keys.db: name either a `file` or an `environment` variable for the secret",
        None,
    ),
    (
        lambda d: _describe(d, Role.DB, {"kind": "file", "passphrase": {"environment": "PHRASE"}}),
        "/db.key",
        "passphrase of the db key: the environment variable PHRASE is not set",
        "read it without an echo: read -rs PHRASE && export PHRASE",
    ),
    (
        lambda d: _describe(d, Role.DB, {"kind": "file", "passphrase": {"file": "phrase"}}),
        "/phrase",
        "passphrase of the db key: there is no such file",
        None,
    ),
    (
        lambda d: (_describe(d, Role.DB, {"kind": "file", "passphrase": {"file": "phrase"}}), _secret(d, "x", 0o644)),
        "/phrase",
        "passphrase of the db key: others can read it (mode 0644)",
        "chmod 600 {}/phrase",
    ),
    (
        lambda d: (_describe(d, Role.DB, {"kind": "file", "passphrase": {"file": "phrase"}}), _secret(d, "\n", 0o600)),
        "/phrase",
        "passphrase of the db key: the file is empty",
        None,
    ),
    (
        lambda d: (_describe(d, Role.DB, {"kind": "file", "passphrase": {"file": "phrase"}}), _secret(d, "x", 0o600)),
        "/db.key",
        "private db key: keys.json names a passphrase, but the key is not encrypted",
        None,
    ),
]


def _secret(directory: Path, text: str, mode: int) -> None:
    path = directory / "phrase"
    path.write_text(text)
    path.chmod(mode)


@pytest.mark.parametrize(("change", "file", "message", "hint"), WRONG, ids=[row[2] for row in WRONG])
def test_wrong_keys_are_refused(
    directory: Path, change: Callable[[Path], object], file: str, message: str, hint: str | None
) -> None:
    change(directory)
    with pytest.raises(InputError) as refused:
        load_keys(directory, environment={})
    assert str(refused.value) == f"{directory}{file}: {message}"
    assert refused.value.hint == (hint if hint is None else hint.replace("{}", str(directory)))


def test_an_encrypted_key_needs_a_passphrase(directory: Path) -> None:
    key = read_private_key(directory / "db.key", Role.DB, None)
    (directory / "db.key").write_bytes(private_key_pem(key, "secret"))
    with pytest.raises(InputError) as refused:
        load_keys(directory, environment={})
    assert (
        str(refused.value) == f"{directory}/db.key: private db key: it is encrypted and keys.json names no passphrase"
    )
    assert refused.value.hint == 'add to its entry: "passphrase": {"environment": "NAME"} or {"file": "PATH"}'
    _describe(directory, Role.DB, {"kind": "file", "passphrase": {"file": "phrase"}})
    _secret(directory, "secret\n", 0o600)
    assert load_keys(directory, environment={}).signer(Role.DB).sign(b"x") == keyset().signer(Role.DB).sign(b"x")


def test_a_token_that_is_not_there_is_told_when_its_role_signs(directory: Path) -> None:
    _describe(directory, Role.DB, _TOKEN | {"pin": {"environment": "PIN"}})
    keys = load_keys(directory, environment={"PIN": "1234"})
    keys.signer(Role.PCR)
    with pytest.raises(InputError) as refused:
        keys.signer(Role.DB)
    assert str(refused.value).startswith(f"{directory}/keys.json: cannot load the PKCS#11 module /usr/lib/none.so: ")


def test_a_private_half_may_be_elsewhere(directory: Path) -> None:
    _describe(directory, Role.RECOVERY, {"kind": "absent"})
    _describe(directory, Role.PK, {"kind": "absent"})
    (directory / "recovery.key").unlink()
    (directory / "pk.key").unlink()
    keys = load_keys(directory, environment={})
    assert keys.recovery_public_key.key_size == 3072
    with pytest.raises(InputError) as refused:
        keys.signer(Role.PK)
    assert str(refused.value) == f"{directory}: the private pk key is not here, only its certificate"


def test_the_recovery_key_never_signs() -> None:
    with pytest.raises(InputError, match=r"the recovery key does not sign"):
        keyset().signer(Role.RECOVERY)


def test_a_role_that_is_not_named_is_told(directory: Path) -> None:
    (directory / "keys.json").write_bytes(encode_descriptor({Role.DB: FileKey()}))
    keys = load_keys(directory, environment={})
    with pytest.raises(InputError) as refused:
        keys.signer(Role.PCR)
    assert str(refused.value) == f"{directory}: there is no pcr certificate"


def test_release_refuses_development_keys(directory: Path) -> None:
    require_release(keyset("release"))
    with pytest.raises(InputError) as refused:
        require_release(keyset())
    assert str(refused.value) == (
        f"{keys_at()}: a release cannot be signed with development keys: pk, kek, db, pcr, recovery, provenance"
    )
    assert refused.value.hint == "make release keys: edgeseal keys init --release"
    mixed = dict(keyset("release").public.certificates) | {Role.PCR: keyset().certificate(Role.PCR)}
    with pytest.raises(InputError, match=r"development keys: pcr$"):
        require_release(PublicKeys(mixed, "mixed"))
    assert PublicKeys(mixed, "mixed").development


def test_public_keys_come_from_certificates_alone(tmp_path: Path) -> None:
    written = export_public(keyset(), tmp_path / "public")
    assert sorted(path.name for path in (tmp_path / "public").iterdir()) == sorted(path.name for path in written)
    assert not any(b"PRIVATE" in path.read_bytes() for path in written)
    public = load_public_keys(tmp_path / "public")
    assert public.development
    assert dict(public.certificates) == dict(keyset().public.certificates)
    assert dict(load_public_keys(keys_at()).certificates) == dict(public.certificates)
    assert public.recovery_public_key.public_numbers() == keyset().recovery_public_key.public_numbers()
    with pytest.raises(InputError, match=r"there are no certificates"):
        load_public_keys(tmp_path)


def test_the_descriptor_survives_a_round_trip() -> None:
    sources = {
        Role.DB: FileKey(passphrase=Secret(environment="A")),
        Role.PCR: FileKey(),
        Role.PK: AbsentKey(),
    }
    decoded = decode_descriptor(encode_descriptor(sources), file="keys.json")
    assert {role: decoded.source(role) for role in Role} == {role: sources.get(role) for role in Role}


def test_the_example_in_the_reference_is_valid() -> None:
    page = (source_root() / "docs/reference/keys.md").read_text()
    example = page.split("```json\n")[1].split("```")[0]
    assert decode_descriptor(example.encode(), file="keys.md").source(Role.PK) == AbsentKey()


def test_signers_know_their_certificate() -> None:
    signer = keyset().signer(Role.DB)
    assert signer.certificate == keyset().certificate(Role.DB)
    assert signer.development
    assert not keyset("release").signer(Role.DB).development
    assert len(signer.keyid) == 64
    assert signer.keyid != keyset("other").signer(Role.DB).keyid
    assert keyset().signer(Role.DB) is signer
