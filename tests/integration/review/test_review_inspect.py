"""`edgeseal inspect` and `edgeseal verify` as a person calls them, on a small real image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builder.cli.main import main
from builder.host.sandbox import Sandbox
from builder.review.compare import compare_builds
from builder.review.inspect import describe_path, overview
from builder.review.manifest import decode_manifest
from builder.review.opened import open_root
from builder.signing.keyset import KeySet
from tests.support.review_build import UNITS, Ingredients, default_files, make_build

pytestmark = pytest.mark.xdist_group("review")  # the good build is made once


@pytest.fixture(scope="session")
def seen(good: Path, tools: Sandbox) -> dict[str, Any]:
    with open_root(good / "root.erofs", tools) as root:
        return overview(root, decode_manifest((good / "manifest.json").read_bytes()), tools)


def test_overview(seen: dict[str, Any]) -> None:
    assert seen["findings"] == []
    assert [item["rule"] for item in seen["accepted_findings"]] == ["interpreter"]
    assert seen["image"]["product"] == "line-inspection"
    assert seen["kernel"] == {"versions": ["6.12.1-amd64"], "modules": ["erofs"]}
    assert seen["packages"] == [{"type": "wheel", "name": "numpy", "version": "2.2.6"}]
    assert [user["name"] for user in seen["users"]] == ["root", "uplink"]
    assert seen["programs"] == ["/usr/bin/python3"]
    assert seen["units"]["uplink.service"] == "multi-user.target"
    assert seen["sockets"] == [
        {"unit": "uplink.socket", "kind": "sequentialpacket", "address": "/run/uplink.sock", "family": "unix"}
    ]


def test_services_with_sandbox_and_capabilities(seen: dict[str, Any]) -> None:
    (service,) = seen["services"]
    assert 0 < service.pop("exposure_tenths") < 100
    assert service == {
        "unit": "uplink.service",
        "user": "uplink",
        "exec": ["/usr/bin/python3 -I -m appliance.uplink"],
        "capability_bounding_set": ["(none)"],
        "ambient_capabilities": [],
    }


def test_everything_that_a_review_would_find(tmp_path: Path, keys: KeySet, tools: Sandbox) -> None:
    files = default_files() | {
        "usr/bin/bash": b"x",
        "etc/open": b"x",
        f"{UNITS}/multi-user.target": b"[Unit]\nWants=web.socket getty@tty1.service run.service\n",
        f"{UNITS}/web.socket": b"[Socket]\nListenStream=8080\n",
        f"{UNITS}/web.service": b"[Service]\nExecStart=/usr/bin/web\n",
        f"{UNITS}/getty@.service": b"[Service]\nExecStart=/usr/sbin/agetty\n",
        f"{UNITS}/run.service": b"[Service]\nExecStart=-/bin/sh -c true\n",
    }
    modes = {"usr/bin/bash": 0o4755, "etc/open": 0o666}
    build = make_build(tmp_path / "bad", tools, Ingredients(keys, files=files, modes=modes))
    with open_root(build / "root.erofs", tools) as root:
        seen = overview(root, None, tools)
    assert sorted((item["rule"], item["path"]) for item in seen["findings"]) == [
        ("listening-socket", f"/{UNITS}/web.socket"),
        ("login-unit", f"/{UNITS}/getty@.service"),
        ("setuid", "/usr/bin/bash"),
        ("shell", "/usr/bin/bash"),
        ("shell-unit", f"/{UNITS}/run.service"),
        ("world-writable", "/etc/open"),
    ]
    assert (seen["setuid"], seen["world_writable"], seen["image"]) == (["/usr/bin/bash"], ["/etc/open"], None)


def test_one_path(good: Path, tools: Sandbox) -> None:
    passwd = describe_path(good / "root.erofs", "etc/passwd", tools)
    assert passwd["text"] == default_files()["etc/passwd"].decode()
    assert (passwd["type"], passwd["mode"], passwd["owner"]) == ("file", "0644", "0:0")
    listing = describe_path(good / "root.erofs", "/usr/", tools)
    assert [entry["path"] for entry in listing["entries"]] == ["/usr/bin", "/usr/lib"]
    assert describe_path(good / "root.erofs", "/", tools)["entries"][0]["target"] == "usr/bin"
    assert describe_path(good / "root.erofs", "/usr/bin/python3", tools)["text"] is None


@pytest.mark.parametrize(
    ("path", "hint"),
    [("/lib/os-release", "did you mean /usr/lib/os-release?"), ("/usr/x/y", "`edgeseal inspect DIR /usr` lists")],
)
def test_no_such_path(path: str, hint: str, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(good), path]) == 2
    assert capsys.readouterr().err == f"error: {path} is not in the image\nhint: {hint}\n"


@pytest.mark.parametrize("words", [["inspect"], ["verify"], ["verify", "--rebuild"]])
def test_no_build(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, str(tmp_path)]) == 2
    assert "hint: give the output directory of `edgeseal build`" in capsys.readouterr().err


def test_inspect_for_a_person_and_for_a_machine(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(good)]) == 0
    text = capsys.readouterr().out
    assert "image        line-inspection 7 (virtual-x86_64, x86_64, DEVELOPMENT)" in text
    assert "findings: none" in text
    assert main(["inspect", str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []
    assert main(["inspect", str(good), "/etc/group"]) == 0
    assert capsys.readouterr().out == "root:x:0:\nuplink:x:702:\n"
    assert main(["inspect", str(good), "/"]) == 0
    assert "l 0777 0:0                7  bin -> usr/bin" in capsys.readouterr().out


def test_verify_for_a_person_and_for_a_machine(
    good: Path, copy: Path, keys_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(good), "--keys", str(keys_directory)]) == 0
    assert f"{good}: verified (keys: {keys_directory})" in capsys.readouterr().out
    (copy / "root.verity").write_bytes(b"")
    assert main(["verify", str(copy), "--keys", str(keys_directory)]) == 1
    text = capsys.readouterr().out
    assert "FAIL  hash tree             root.verity has 0 bytes, the tree over the data has 8192" in text
    assert "NOT verified: 3 of 19 checks failed" in text
    assert main(["verify", str(copy), "--keys", str(keys_directory), "--json"]) == 1
    value = json.loads(capsys.readouterr().out)
    bad = [check["name"] for check in value["checks"] if not check["ok"]]
    assert (value["ok"], bad) == (False, ["file root.verity", "slots", "hash tree"])


def test_release_refuses_development_keys(good: Path, keys_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(good), "--keys", str(keys_directory), "--release"]) == 2
    assert "a release cannot be signed with development keys" in capsys.readouterr().err


def test_a_rebuild_that_differs_names_the_byte(
    good: Path,
    keys_directory: Path,
    tmp_path: Path,
    tools: Sandbox,
    keys: KeySet,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = default_files() | {"etc/group": b"root:x:0:\nuplinK:x:702:\n"}
    other = make_build(tmp_path / "other", tools, Ingredients(keys, files=files))
    monkeypatch.setattr(
        "builder.cli.verify.rebuild_and_compare", lambda old, _keys, sandbox: compare_builds(old, other, sandbox)
    )
    words = ["verify", str(good), "--keys", str(keys_directory), "--rebuild"]
    assert main(words) == 1
    text = capsys.readouterr().out
    assert ": /etc/group byte 15\n        this build  30 3a 0a 75 70 6c 69 6e [6b] 3a 78 3a 37 30 32 3a 0a\n" in text
    assert "verified, but NOT reproduced" in text
    monkeypatch.setattr("builder.cli.verify.rebuild_and_compare", lambda old, _keys, sandbox: ())
    assert main(words) == 0
    assert "verified and reproduced" in capsys.readouterr().out
