"""A ceremony with a key in a token: SoftHSM2 stands for every HSM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from builder.cli.main import main
from builder.host.run import run
from builder.publish import staging, vendor
from builder.publish.keys import Keyring, open_signer, read_key
from builder.publish.roles import RoleKeys
from tests.support.publish import NOW, PERIODS, key_of, release_ring, release_roles

PIN, LABEL = "2468", "edgeseal repository"
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*-linux-gnu/softhsm/libsofthsm2.so")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The PKCS#11 library, with one token that holds an RSA key and an ECDSA key."""
    found = [path for pattern in _MODULES for path in Path("/").glob(pattern[1:])]
    assert found, "softhsm2 is not installed: make prepare"
    directory = tmp_path_factory.mktemp("softhsm")
    (directory / "tokens").mkdir()
    (directory / "conf").write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\n")
    environment = {"SOFTHSM2_CONF": str(directory / "conf"), "PATH": os.environ["PATH"]}
    words = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "13579"]
    run(words, reason="make a token", environment=environment)
    keys = {"rsa": rsa.generate_private_key(public_exponent=65537, key_size=3072)}
    keys |= {"ec": ec.generate_private_key(ec.SECP256R1())}  # type: ignore[dict-item]
    for number, (name, key) in enumerate(keys.items(), start=1):
        file = directory / f"{name}.pem"
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        words = ["softhsm2-util", "--import", str(file), "--token", LABEL, "--label", name, "--id", f"0{number}"]
        run([*words, "--pin", PIN], reason="import a key", environment=environment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(directory / "conf"))
        patch.setenv("PIN", PIN)
        yield found[0]


def test_two_tokens_keys_make_a_threshold(module: Path, tmp_path: Path) -> None:
    for name in ("rsa", "ec"):
        words = ["repo", "key", str(tmp_path / f"{name}.json"), "--pkcs11-module", str(module)]
        assert main([*words, "--token", LABEL, "--label", name, "--pin-env", "PIN"]) == 0
        assert PIN not in (tmp_path / f"{name}.json").read_text()
    described = [read_key(tmp_path / f"{name}.json") for name in ("rsa", "ec")]
    assert [key.key.scheme for key in described] == ["rsa-pkcs1v15-sha256", "ecdsa-sha2-nistp256"]
    offline = RoleKeys((*(key.key for key in described), key_of("carol").key), 2)
    roles = release_roles() | {"root": offline, "targets": offline}
    path = tmp_path / "repository"
    vendor.stage_repository(path, roles, development=False, now=NOW, periods=PERIODS)
    for key in described:
        staging.sign_file(staging.ceremony_path(path), open_signer(key))
    done = staging.finish(path, [], release_ring(), now=NOW, periods=PERIODS)
    assert done.keys("root").holders == ["carol", "ec", "rsa"]
    assert len(Keyring(tmp_path).signers(list(done.keys("root").keys))) == 2
