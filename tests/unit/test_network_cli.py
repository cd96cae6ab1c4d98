"""`edgeseal network`: what goes in, what comes out, and with which exit code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from appliance.core.errors import InputError
from appliance.formats.network_policy import encode_network_policy
from appliance.formats.site_network import decode_site_network, fill
from builder.cli import network
from builder.cli.main import main
from builder.network.ruleset import compile_ruleset
from builder.profile.load import load_profile, profile_path
from builder.rootfs.files import SERVICE_UIDS
from tests.support.policies import everything, tiny

replace = msgspec.structs.replace
NAME = "smart-camera"


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A network.json as an image has it."""
    path = tmp_path / "network.json"
    path.write_bytes(encode_network_policy(load_profile(NAME).network))
    return path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["network", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_show_is_the_same_by_name_and_by_path(capsys: pytest.CaptureFixture[str]) -> None:
    by_name = said(capsys, "show", NAME)
    assert by_name[0] == 0
    assert by_name == said(capsys, "show", str(profile_path(NAME)))


def test_show_a_sealed_policy(capsys: pytest.CaptureFixture[str], sealed: Path) -> None:
    code, text, _ = said(capsys, "show", str(sealed), "--json")
    data = json.loads(text)
    assert (code, data["profile"]) == (0, "network")
    assert [one["id"] for one in data["conduits"]] == [one.id for one in load_profile(NAME).network.conduits]


def test_the_diagram_goes_to_a_file_or_to_standard_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "zones.svg"
    assert said(capsys, "show", NAME, "--svg", str(file))[:2] == (0, f"{file}\n")
    assert said(capsys, "show", NAME, "--svg", "-")[:2] == (0, file.read_text())
    assert json.loads(said(capsys, "show", NAME, "--svg", str(file), "--json")[1]) == {
        "profile": NAME,
        "written": str(file),
    }


def test_diff_of_a_profile_and_its_sealed_policy_is_empty(capsys: pytest.CaptureFixture[str], sealed: Path) -> None:
    assert said(capsys, "diff", NAME, str(sealed))[:2] == (0, "no difference\n")


def test_diff_exits_1_when_more_is_allowed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_bytes(encode_network_policy(tiny()))
    new.write_bytes(encode_network_policy(replace(tiny(), conduits=tiny().conduits[:2])))
    assert said(capsys, "diff", str(old), str(new))[0] == 0
    code, text, _ = said(capsys, "diff", str(new), str(old))
    assert (code, text.splitlines()[0]) == (1, "! opened   conduit arp-from-site")
    code, text, _ = said(capsys, "diff", str(new), str(old), "--json")
    assert (code, json.loads(text)["widens"]) == (1, True)


@pytest.mark.parametrize("command", ["show", "diff"])
def test_a_policy_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    missing = str(tmp_path / "network.json")
    assert said(capsys, command, missing, *([missing] if command == "diff" else [])) == (
        2,
        "",
        f"error: {missing}: cannot read the policy: no such file or directory\n"
        "hint: give a profile, by name or by path, or the network.json of an image\n",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encode_network_policy(everything()) + b"\n", "network policy: not in canonical form"),
        (b"{", "network policy: Input data was truncated"),
    ],
)
def test_a_sealed_policy_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "network.json"
    path.write_bytes(content)
    code, _, error = said(capsys, "show", str(path))
    assert (code, error.splitlines()[0]) == (2, f"error: {message}")


def test_a_profile_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = said(capsys, "show", "smart-kamera")
    assert (code, error) == (2, "error: no profile is called `smart-kamera`\nhint: did you mean `smart-camera`?\n")


def test_a_name_of_a_profile_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = said(capsys, "show")
    assert (code, error.splitlines()[0]) == (2, "error: the following arguments are required: PROFILE")


# ---- check, with a kernel that is not there


Asked = list[tuple[bytes, str]]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Takes every ruleset; remembers which ones and under what name."""
    asked: Asked = []

    def load(ruleset: bytes, *, tools: object, name: str) -> None:
        asked.append((ruleset, name))

    monkeypatch.setattr(network, "tools_tree", lambda: None)
    monkeypatch.setattr(network, "load_and_list", load)
    return asked


def test_check_loads_the_ruleset_of_the_image(capsys: pytest.CaptureFixture[str], kernel: Asked) -> None:
    code, text, error = said(capsys, "check", NAME, "--json")
    ruleset = compile_ruleset(load_profile(NAME).network, name=NAME, uids=SERVICE_UIDS)
    assert kernel == [(b"", "an empty ruleset"), (ruleset, f"the ruleset of {NAME}")]
    assert (code, error) == (0, "")
    assert json.loads(text)["ruleset"] == {
        "bytes": len(ruleset),
        "sha256": hashlib.sha256(ruleset).hexdigest(),
        "loaded": True,
    }


def test_check_says_when_nothing_could_be_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kernel: Asked
) -> None:
    def refuse(_ruleset: bytes, *, tools: object, name: str) -> None:
        raise InputError(f"cannot load {name} into a network namespace: bwrap exited 1")

    monkeypatch.setattr(network, "load_and_list", refuse)
    code, text, _ = said(capsys, "check", NAME)
    assert code == 0
    assert text.splitlines()[-1].endswith("not loaded: this machine lends no network namespace")


def test_check_fails_when_the_kernel_refuses_the_ruleset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kernel: Asked
) -> None:
    def refuse(ruleset: bytes, *, tools: object, name: str) -> None:
        if ruleset:
            raise InputError(f"cannot load {name} into a network namespace: no such chain", hint="read it")

    monkeypatch.setattr(network, "load_and_list", refuse)
    assert said(capsys, "check", NAME) == (
        2,
        "",
        f"error: cannot load the ruleset of {NAME} into a network namespace: no such chain\nhint: read it\n",
    )


@pytest.mark.parametrize("release", [False, True])
def test_an_approval_that_has_ended_is_a_warning_and_an_error_of_a_release(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kernel: Asked, release: bool
) -> None:
    path = tmp_path / f"{NAME}.yaml"
    lines = profile_path(NAME).read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if line.strip().startswith("review: "))
    lines[number] = lines[number].partition("review: ")[0] + "review: 2020-01-31"
    path.write_text("\n".join(lines) + "\n")
    code, text, error = said(capsys, "check", str(path), *(["--release"] if release else []))
    assert error == (
        f"{'error' if release else 'warning'}: {path}:{number + 1}: network.conduits[0].review: "
        "`2020-01-31` has passed, the conduit `broker` is approved no longer\n"
        "hint: have it reviewed by its owner (plant IT, network operations), "
        "and write the day until which it is approved\n"
    )
    assert (code, bool(text)) == ((2, False) if release else (0, True))
    assert bool(kernel) is not release


# ---- credential


SITE = """\
# the brokers of line 3
schema: 1
slots:
  site-repository: [192.168.20.9]
  broker: [192.168.20.5, 192.168.20.8]
"""
CREDENTIAL = '{"schema":1,"slots":{"broker":["192.168.20.5","192.168.20.8"],"site-repository":["192.168.20.9"]}}\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "line-3.yaml"
    path.write_text(SITE)
    return path


def test_the_credential_is_what_the_device_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, site: Path
) -> None:
    file = tmp_path / "network.json"
    assert said(capsys, "credential", NAME, "--site", str(site), "--out", str(file)) == (0, f"{file}\n", "")
    assert file.read_text() == CREDENTIAL
    assert fill(load_profile(NAME).network, decode_site_network(file.read_bytes())) == {
        "broker": ("192.168.20.5", "192.168.20.8"),
        "site-repository": ("192.168.20.9",),
    }


@pytest.mark.parametrize("out", [(), ("--out", "-")], ids=["without --out", "--out -"])
def test_the_credential_goes_to_standard_output(
    capsys: pytest.CaptureFixture[str], site: Path, out: tuple[str, ...]
) -> None:
    assert said(capsys, "credential", NAME, "--site", str(site), *out) == (0, CREDENTIAL, "")
    data = json.loads(said(capsys, "credential", NAME, "--site", str(site), *out, "--json")[1])
    assert data == {"profile": NAME, "credential": "edgeseal.network", "content": CREDENTIAL}


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (
            4,
            "  site-repository: [203.0.113.9]",
            "slots.site-repository[0]: `203.0.113.9` is outside its bounds (192.168.20.0/24)\n"
            "hint: correct it, or have the policy changed\n",
        ),
        (
            5,
            "  borker: [192.168.20.5]",
            "slots.borker: the policy has no such slot\nhint: did you mean `broker`?\n",
        ),
    ],
)
def test_no_credential_for_what_the_device_would_refuse(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, site: Path, line: int, text: str, message: str
) -> None:
    lines = SITE.splitlines()
    lines[line - 1] = text
    site.write_text("\n".join(lines) + "\n")
    file = tmp_path / "network.json"
    code, out, error = said(capsys, "credential", NAME, "--site", str(site), "--out", str(file))
    assert (code, out, error) == (2, "", f"error: {site}:{line}: {message}")
    assert not file.exists()


def test_a_credential_needs_a_sites_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = said(capsys, "credential", NAME)
    assert (code, error.splitlines()[0]) == (2, "error: the following arguments are required: --site")
