"""Keys in a token: SoftHSM2 stands for every HSM. The same signatures as from a file, and the PIN in no argument."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pkcs11
import pytest

from appliance.core.errors import InputError, VerificationError
from builder.host.run import run
from builder.signing import keyinit
from builder.signing.authenticode import sign_pe, verify_pe
from builder.signing.cms import sign_detached, verify_cms
from builder.signing.descriptor import Secret
from builder.signing.keyinit import TokenPlan, init_keys
from builder.signing.keyset import KeySet, load_keys, require_release
from builder.signing.roles import Role
from builder.signing.token import Pkcs11Signer, TokenKey, open_session
from tests.support import softhsm
from tests.support.keys import MOMENT, keys_at, keyset
from tests.support.pe import tiny_pe
from tests.support.softhsm import PIN

pytestmark = pytest.mark.xdist_group("tokens")  # the library and its tokens are made once

LABEL = softhsm.SIGNING
ENVIRONMENT = {"PIN": PIN, "PHRASE": "recovery phrase"}


@pytest.fixture(scope="module")
def release(module: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release keys made in the token."""
    directory = tmp_path_factory.mktemp("keys") / "release"
    init_keys(
        directory,
        development=False,
        now=MOMENT,
        organisation="Plant Ltd",
        passphrase=Secret(environment="PHRASE"),
        token=TokenPlan(module, LABEL, Secret(environment="PIN")),
        environment=ENVIRONMENT,
    )
    return directory


def test_a_token_signs_the_same_bytes_as_a_file(module: Path) -> None:
    signer = Pkcs11Signer(keyset().certificate(Role.DB), TokenKey(module, LABEL, "db"), PIN)
    image = tiny_pe({".text": b"code"})
    assert signer.sign(b"data") == keyset().signer(Role.DB).sign(b"data")
    assert sign_pe(image, signer) == sign_pe(image, keyset().signer(Role.DB))
    assert signer.development


def test_release_keys_in_a_token_sign(release: Path) -> None:
    keys = load_keys(release, environment=ENVIRONMENT)
    require_release(keys)
    assert sorted(path.name for path in release.iterdir() if path.suffix == ".key") == ["recovery.key"]
    for role in Role:
        if role.signs:
            verify_cms(sign_detached(b"x", keys.signer(role)), b"x", [keys.certificate(role)])
    verify_pe(sign_pe(tiny_pe({".text": b"x"}), keys.signer(Role.DB)), [keys.certificate(Role.DB)])
    with pytest.raises(VerificationError):
        verify_cms(sign_detached(b"x", keys.signer(Role.DB)), b"x", [keys.certificate(Role.PCR)])


def test_the_private_half_cannot_leave(release: Path, module: Path) -> None:
    session = open_session(module, LABEL, PIN)
    key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="db of release")
    assert key[pkcs11.Attribute.SENSITIVE]
    assert not key[pkcs11.Attribute.EXTRACTABLE]
    with pytest.raises(pkcs11.exceptions.PKCS11Error):
        key[pkcs11.Attribute.PRIVATE_EXPONENT]


def test_no_secret_is_in_the_descriptor(release: Path) -> None:
    text = (release / "keys.json").read_text()
    assert PIN not in text
    assert json.loads(text)["keys"]["db"]["pin"] == {"environment": "PIN"}


def test_making_them_twice_is_refused_and_changes_nothing(release: Path, module: Path, tmp_path: Path) -> None:
    before = _labels(module)
    with pytest.raises(InputError, match=r"token 'edgeseal test' already has an object 'pk of release'"):
        _init(module, tmp_path / "release")
    assert list(tmp_path.iterdir()) == []
    assert _labels(module) == before


def test_an_interruption_leaves_no_key_in_the_token(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _labels(module)

    def interrupt(making: Path, directory: Path) -> None:
        assert len(_labels(module)) == len(before) + 10
        raise KeyboardInterrupt

    monkeypatch.setattr(keyinit, "_appear", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _init(module, tmp_path / "interrupted")
    assert _labels(module) == before
    assert list(tmp_path.iterdir()) == []


def _init(module: Path, directory: Path) -> None:
    plan = TokenPlan(module, LABEL, Secret(environment="PIN"))
    phrase = Secret(environment="PHRASE")
    init_keys(directory, development=False, now=MOMENT, passphrase=phrase, token=plan, environment=ENVIRONMENT)


def _labels(module: Path) -> list[str]:
    return sorted(str(o[pkcs11.Attribute.LABEL]) for o in open_session(module, LABEL, PIN).get_objects())


def _keys(module: Path, directory: Path, **changes: object) -> KeySet:
    """Development keys whose db key is said to be in the token."""
    shutil.copytree(keys_at(), directory)
    entry = {"kind": "pkcs11", "module": str(module), "token": LABEL, "label": "db", "pin": {"environment": "PIN"}}
    document = json.loads((directory / "keys.json").read_text())
    document["keys"]["db"] = entry | changes
    (directory / "keys.json").write_text(json.dumps(document))
    return load_keys(directory, environment=ENVIRONMENT)


def test_the_pin_may_be_in_a_file(module: Path, tmp_path: Path) -> None:
    keys = _keys(module, tmp_path / "keys", pin={"file": "pin"})
    (tmp_path / "keys/pin").write_text(PIN + "\n")
    (tmp_path / "keys/pin").chmod(0o600)
    assert keys.signer(Role.DB).sign(b"x") == keyset().signer(Role.DB).sign(b"x")
    (tmp_path / "keys/pin").chmod(0o644)
    with pytest.raises(InputError, match=r"PIN of token 'edgeseal test': others can read it \(mode 0644\)"):
        load_keys(tmp_path / "keys", environment={}).signer(Role.DB)


REFUSED = [
    ({"token": "another"}, "the PKCS#11 module {module} has not exactly one token 'another'"),
    ({"label": "nothing"}, "token 'edgeseal test' has not exactly one private key 'nothing'"),
    ({"label": "pk of release"}, "the key 'pk of release' of token 'edgeseal test' does not belong to its certificate"),
    ({"pin": {"environment": "UNSET"}}, "PIN of token 'edgeseal test': the environment variable UNSET is not set"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_wrong_tokens_are_refused(
    release: Path, module: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    keys = _keys(module, tmp_path / "keys", **changes)
    with pytest.raises(InputError) as refused:
        keys.signer(Role.DB)
    assert str(refused.value) == f"{tmp_path}/keys/keys.json: {message.format(module=module)}"


def test_a_wrong_pin_is_refused(module: Path) -> None:
    """In a process of its own: a login holds for the whole process."""
    program = (
        "import sys; from pathlib import Path; from builder.signing.token import open_session\n"
        "try: open_session(Path(sys.argv[1]), sys.argv[2], '1111')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    environment = {"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"], "PATH": os.environ["PATH"]}
    said = run([sys.executable, "-c", program, module, LABEL], reason="try a wrong PIN", environment=environment)
    assert said == b"InputError token 'edgeseal test' refuses the PIN\n"


def test_a_token_that_computes_wrongly_is_caught(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Pkcs11Signer(keyset().certificate(Role.DB), TokenKey(module, LABEL, "db"), PIN)
    monkeypatch.setattr("builder.signing.token.sign_in_token", lambda *_: bytes(256))
    with pytest.raises(VerificationError, match=r"token 'edgeseal test': the signature does not verify"):
        signer.sign(b"x")
