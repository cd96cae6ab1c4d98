"""edgeseal keys: what it returns, what it prints, what it refuses."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from appliance.core.errors import InputError
from builder.cli.keys import COMMANDS
from tests.support.keys import used_key


def _run(*words: str) -> tuple[Any, str]:
    command = {command.path: command for command in COMMANDS}[(words[0], words[1])]
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    result = command.execute(parser.parse_args(words[2:]))
    json.dumps(result)
    return result, command.render(result)


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESEAL_KEYS", str(tmp_path / "keys"))
    monkeypatch.setattr(rsa, "generate_private_key", used_key)


def test_development_keys_are_made_listed_and_exported(tmp_path: Path) -> None:
    made, text = _run("keys", "init", "--dev")
    assert made["development"] is True
    assert made["directory"] == str(tmp_path / "keys" / "dev")
    assert text.splitlines()[0] == f"{tmp_path}/keys/dev: DEVELOPMENT keys"
    assert [key["role"] for key in made["keys"]] == ["pk", "kek", "db", "pcr", "recovery", "provenance"]
    assert _run("keys", "list")[0] == made
    exported, _ = _run("keys", "export", str(tmp_path / "public"))
    assert sorted(Path(path).name for path in exported["written"]) == sorted(f"{k['role']}.crt" for k in made["keys"])


def test_release_keys_are_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHRASE", "long enough")
    made, text = _run("keys", "init", "--release", "--passphrase-env", "PHRASE", "--organisation", "Plant Ltd")
    assert made["development"] is False
    assert all(key["encrypted"] for key in made["keys"])
    assert "file, encrypted" in text
    assert "CN=edgeseal db,O=Plant Ltd" in text
    assert _run("keys", "list", "--release")[0] == made


REFUSED = [
    (("init", "--release"), "release key files are not written in the clear"),
    (
        ("init", "--dev", "--passphrase-file", "a", "--passphrase-env", "B"),
        "give either --passphrase-file or --passphrase-env, not both",
    ),
    (("init", "--dev", "--token", "t"), "a token needs --pkcs11-module, --token, and --pin-file or --pin-env"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_wrong_arguments_are_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as refused:
        _run("keys", *words)
    assert str(refused.value) == message
    assert not (tmp_path / "keys").exists()


def test_listing_before_making_says_how_to_make(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        _run("keys", "list")
    assert str(refused.value) == f"{tmp_path}/keys/dev: there are no keys"
    assert refused.value.hint == "make keys: edgeseal keys init --dev"


def test_no_option_takes_a_secret_itself() -> None:
    """A secret on a command line is in the process list and in the shell's history."""
    parser = argparse.ArgumentParser()
    {command.path: command for command in COMMANDS}[("keys", "init")].arguments(parser)
    secret = [action.dest for action in parser._actions if "pin" in action.dest or "passphrase" in action.dest]
    assert sorted(secret) == ["passphrase_env", "passphrase_file", "pin_env", "pin_file"]
