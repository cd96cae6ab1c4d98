"""A ceremony with a key in a token: SoftHSM2 stands for every HSM."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.cli.main import main
from builder.publish import staging, vendor
from builder.publish.keys import Keyring, open_signer, read_key
from builder.publish.roles import RoleKeys
from tests.support.publish import NOW, PERIODS, key_of, release_ring, release_roles
from tests.support.softhsm import PIN, REPOSITORY

pytestmark = pytest.mark.xdist_group("tokens")  # the library and its tokens are made once


def test_two_tokens_keys_make_a_threshold(module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIN", PIN)
    for name in ("rsa", "ec"):
        words = ["repo", "key", str(tmp_path / f"{name}.json"), "--pkcs11-module", str(module)]
        assert main([*words, "--token", REPOSITORY, "--label", name, "--pin-env", "PIN"]) == 0
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
