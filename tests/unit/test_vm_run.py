"""`edgeseal run`: what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.errors import InputError
from builder.cli.run import parse_credential, parse_forward
from builder.vm.config import HostForward
from builder.vm.opened import open_build


def test_a_forward_is_two_ports() -> None:
    assert parse_forward("8080:80") == HostForward(8080, 80)


@pytest.mark.parametrize("text", ["8080", "8080:", ":80", "0:80", "8080:65536", "a:80", "8080:80:1", "²:80"])
def test_another_forward_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_forward(text)
    assert str(refused.value) == f"--forward {text}: not two ports"
    assert refused.value.hint == "write HOST:GUEST, for example 8080:80"


def test_a_credential_is_a_name_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "id").write_bytes(b"line-3")
    assert parse_credential(f"edgeseal.device-id={tmp_path / 'id'}") == ("edgeseal.device-id", b"line-3")


@pytest.mark.parametrize("text", ["edgeseal.device-id", "=file", "name=", "a/b=file"])
def test_another_credential_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_credential(text)
    assert str(refused.value) == f"--credential {text}: not NAME=FILE"


def test_a_credential_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        parse_credential(f"edgeseal.broker-ca={tmp_path / 'none'}")
    assert str(refused.value) == f"{tmp_path / 'none'}: cannot read a credential: No such file or directory"


def test_a_directory_without_a_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        open_build(tmp_path)
    assert str(refused.value) == f"{tmp_path}: there is no build here"
    assert refused.value.hint == "make one: edgeseal build PROFILE --out DIR"
