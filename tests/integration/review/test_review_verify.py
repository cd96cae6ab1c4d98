"""`edgeseal verify` on a small real build: everything holds, and every check fails on its broken twin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.core.canonical import canonical_json
from appliance.core.errors import InputError
from builder.host.sandbox import Sandbox
from builder.review.checks import CHECKS
from builder.review.gpt import read_partitions
from builder.review.manifest import FileRecord, file_record
from builder.review.verify import Report, verify_directory
from builder.signing.authenticode import sign_pe
from builder.signing.keyinit import init_keys
from builder.signing.keyset import KeySet, PublicKeys, load_keys
from builder.signing.roles import Role
from tests.integration.review.conftest import NOW
from tests.support.review_build import ARGUMENTS, OS_RELEASE, POLICY, Ingredients, default_files, make_build, pe_image
from tests.support.review_lock import EPOCH

pytestmark = pytest.mark.xdist_group("review")  # the good build is made once


def failed(report: Report) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if not check.ok}


def test_a_good_build_passes_every_check(good: Path, keys: KeySet, tools: Sandbox) -> None:
    report = verify_directory(good, keys.public, tools)
    assert failed(report) == {}
    assert len(report.checks) == len(CHECKS)


def test_veritysetup_agrees_with_our_hash_tree(good: Path, tools: Sandbox) -> None:
    root_hash = json.loads((good / "manifest.json").read_bytes())["root_hash"]
    tools.run(
        ["veritysetup", "verify", good / "root.erofs", good / "root.verity", root_hash],
        reason="verify the hash tree",
        binds={good: None},
    )


def test_two_builds_are_one(good: Path, keys: KeySet, tools: Sandbox, tmp_path: Path) -> None:
    again = make_build(tmp_path / "again", tools, Ingredients(keys))
    for name in ("root.erofs", "root.verity", "uki.efi", "sbom.cdx.json", "disk.raw", "manifest.json"):
        assert file_record(again / name) == file_record(good / name), name


# What was baked in by somebody who holds the keys, or changed a source: everything else of the build is right.
BAKED: list[tuple[str, str, str, Callable[[Ingredients], dict[str, Any]]]] = [
    ("keys", "no-role", "the manifest names no db key", lambda i: {"manifest": {"keys": {"pcr": "0" * 64}}}),
    (
        "keys",
        "lie",
        "the manifest says development is False, the keys say True",
        lambda i: {"manifest": {"development": False}},
    ),
    ("provenance", "key", "DSSE envelope: the signature does not verify", lambda i: {"provenance_role": Role.KEK}),
    ("UKI signature", "key", "Authenticode signature: signed with a key", lambda i: {"uki_role": Role.KEK}),
    ("EFI system partition", "unsigned", "PE image: it is not signed", lambda i: {"loader_role": None}),
    (
        "EFI system partition",
        "other-key",
        "Authenticode signature: signed with a key",
        lambda i: {"loader_role": Role.KEK},
    ),
    (
        "EFI system partition",
        "program",
        "the EFI system partition has a program more: /EFI/tool.bin",
        lambda i: {"esp_files": {"EFI/tool.bin": pe_image({".text": b"x"})}},
    ),
    (
        "EFI system partition",
        "version",
        "the EFI system partition has the kernels ['/EFI/Linux/edgeseal_6.efi'], not the one of this version",
        lambda i: {"uki_name": "edgeseal_6.efi"},
    ),
    (
        "EFI system partition",
        "second-kernel",
        "the EFI system partition has the kernels ['/EFI/Linux/edgeseal_7.efi', '/EFI/Linux/old.efi']",
        lambda i: {"esp_files": {"EFI/Linux/old.efi": sign_pe(pe_image({".text": b"x"}), i.keys.signer(Role.DB))}},
    ),
    (
        "command line",
        "signatures",
        "the command line does not say dm_verity.require_signatures=1",
        lambda i: {"arguments": ARGUMENTS.replace("dm_verity.require_signatures=1", "")},
    ),
    ("command line", "init", "the command line says init=/x", lambda i: {"arguments": ARGUMENTS + " init=/x"}),
    (
        "command line",
        "two-hashes",
        "the command line says roothash=",
        lambda i: {"arguments": ARGUMENTS + " roothash=0"},
    ),
    (
        "command line",
        "another-root",
        f"the command line says systemd.verity_root_data=UUID={'0' * 8}, it must be UUID=",
        lambda i: {"named_uuid": "0" * 8},
    ),
    ("root hash signature", "key", "CMS signature: signed with a key", lambda i: {"root_hash_role": Role.KEK}),
    ("PCR signature", "key", "the PCR key in uki.efi is not the trusted one", lambda i: {"pcr_role": Role.KEK}),
    ("IPE policy", "key", "CMS signature: signed with a key", lambda i: {"policy_role": Role.KEK}),
    ("IPE policy", "name", "the policy in it is not named other", lambda i: {"policy_name": "other"}),
    (
        "IPE policy",
        "default",
        "EXECUTE is not denied by default",
        lambda i: {"policy": POLICY.replace("DEFAULT op=EXECUTE action=DENY\n", "")},
    ),
    (
        "IPE policy",
        "hole",
        "allows without a signed root: op=EXECUTE boot_verified=TRUE action=ALLOW",
        lambda i: {"policy": POLICY + "op=EXECUTE boot_verified=TRUE action=ALLOW\n"},
    ),
    ("root tree", "time", "has the time", lambda i: {"erofs_epoch": EPOCH + 1}),
    (
        "root tree",
        "version",
        "os-release says IMAGE_VERSION=8, the manifest says 7",
        lambda i: {"files": default_files() | {"usr/lib/os-release": OS_RELEASE.replace("7", "8").encode()}},
    ),
    (
        "root tree",
        "variant",
        "os-release says VARIANT_ID=release, the manifest says development",
        lambda i: {
            "files": default_files() | {"usr/lib/os-release": OS_RELEASE.replace("development", "release").encode()}
        },
    ),
    ("root tree", "digest", "the tree digest of root.erofs is", lambda i: {"manifest": {"tree_digest": "0" * 64}}),
    ("bill of materials", "root", "is about another root image", lambda i: {"image_facts": {"root_hash": "0" * 64}}),
    ("bill of materials", "version", "about another product or version", lambda i: {"image_facts": {"version": 8}}),
    (
        "bill covers contents",
        "model",
        "/usr/lib/edgeseal/models/other/model.onnx is not in the bill of materials",
        lambda i: {"files": default_files() | {"usr/lib/edgeseal/models/other/model.onnx": b"other"}},
    ),
    (
        "bill covers contents",
        "wheel",
        "requests 1.0 is not in the bill of materials",
        lambda i: {
            "files": default_files()
            | {"usr/lib/python3/dist-packages/requests-1.0.dist-info/METADATA": b"Name: requests\nVersion: 1.0\n\n"}
        },
    ),
    (
        "bill covers contents",
        "package",
        "package bash 5.2 is not in the bill of materials",
        lambda i: {
            "files": default_files()
            | {"usr/lib/edgeseal/dpkg-status": b"Package: bash\nVersion: 5.2\nArchitecture: amd64\n\n"}
        },
    ),
]

SEEN_BY_MORE = {("keys", "lie"): {"root tree"}, ("provenance", "key"): {"bill of materials"}}


@pytest.mark.parametrize(("check", "twin", "message", "change"), BAKED, ids=[f"{row[0]}-{row[1]}" for row in BAKED])
def test_baked_in(
    check: str,
    twin: str,
    message: str,
    change: Callable[[Ingredients], dict[str, Any]],
    keys: KeySet,
    tools: Sandbox,
    tmp_path: Path,
) -> None:
    ingredients = Ingredients(keys)
    for name, value in change(ingredients).items():
        setattr(ingredients, name, value)
    found = failed(verify_directory(make_build(tmp_path / "bad", tools, ingredients), keys.public, tools))
    assert set(found) == {check} | SEEN_BY_MORE.get((check, twin), set())
    assert message in found[check]


def flip(path: Path, at: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))


def offset(build: Path, label: str) -> int:
    return next(item.offset for item in read_partitions(build / "disk.raw") if item.label == label)


def edit_manifest(build: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((build / "manifest.json").read_bytes())
    change(value)
    (build / "manifest.json").write_bytes(canonical_json(value))


# What a stranger without keys changes afterwards: (what, how, which checks see it, what the first of them says).
TAMPERED: list[tuple[str, Callable[[Path], object], set[str], str]] = [
    (
        "one bit of root.erofs",
        lambda b: flip(b / "root.erofs", 5000),
        {"file root.erofs", "slots", "hash tree", "root hash signature"},
        "file root.erofs: ",
    ),
    (
        "one bit of root.verity",
        lambda b: flip(b / "root.verity", 4100),
        {"file root.verity", "slots", "hash tree"},
        "hash tree: root.verity differs from the tree over the data at byte 4100 (hash block 0)",
    ),
    (
        "one bit of the UKI",
        lambda b: flip(b / "uki.efi", 3000),
        {"file uki.efi", "EFI system partition", "UKI signature", "PCR signature"},
        "UKI signature: Authenticode signature",
    ),
    (
        "one bit of the root partition",
        lambda b: flip(b / "disk.raw", offset(b, "root-a") + 5000),
        {"file disk.raw", "slots"},
        "slots: partition root-a differs from root.erofs at byte 5000",
    ),
    (
        "a byte behind the hash tree",
        lambda b: flip(b / "disk.raw", offset(b, "root-a-verity") + 20000),
        {"file disk.raw", "slots"},
        "in partition root-a-verity behind root.verity",
    ),
    (
        "a byte in slot B",
        lambda b: flip(b / "disk.raw", offset(b, "root-b") + 7),
        {"file disk.raw", "slots"},
        "in partition root-b",
    ),
    (
        "a byte before the first partition",
        lambda b: flip(b / "disk.raw", offset(b, "esp") - 1),
        {"file disk.raw", "partition table"},
        "between the partitions",
    ),
    (
        "the primary partition table",
        lambda b: flip(b / "disk.raw", 1024 + 40),
        {"file disk.raw", "partition table", "slots", "EFI system partition"},
        "partition table: the primary partition table is damaged",
    ),
    (
        "the backup partition table",
        lambda b: flip(b / "disk.raw", (12 << 20) - 512 + 40),
        {"file disk.raw", "partition table", "slots", "EFI system partition"},
        "partition table: the backup partition header is damaged",
    ),
    (
        "the bill of materials",
        lambda b: (b / "sbom.cdx.json").write_bytes((b / "sbom.cdx.json").read_bytes().replace(b"257.8", b"257.9")),
        {"file sbom.cdx.json", "bill of materials"},
        "bill of materials: bill of materials and provenance differ in pkg:deb/debian/systemd",
    ),
    (
        "an invalid bill",
        lambda b: (b / "sbom.cdx.json").write_bytes(
            (b / "sbom.cdx.json").read_bytes().replace(b'"library"', b'"libr"', 1)
        ),
        {"file sbom.cdx.json", "bill of materials"},
        "bill of materials: sbom.cdx.json: the strict CycloneDX 1.6 schema refuses it",
    ),
    (
        "the manifest's partitions",
        lambda b: edit_manifest(b, lambda m: m["partitions"].pop()),
        {"provenance", "partition table"},
        "partition table: the partition table differs from the manifest: root-b-verity",
    ),
    (
        "the manifest's version",
        lambda b: edit_manifest(b, lambda m: m.update(version=8)),
        {"provenance", "EFI system partition", "root tree", "bill of materials"},
        "provenance: the provenance is about other artefacts: manifest.json differ",
    ),
    (
        "the manifest's command line",
        lambda b: edit_manifest(b, lambda m: m.update(command_line="x")),
        {"provenance", "command line"},
        "command line: the command line of uki.efi is not the manifest's",
    ),
    (
        "a key in the manifest",
        lambda b: edit_manifest(b, lambda m: m["keys"].update(db="0" * 64)),
        {"keys", "provenance"},
        "keys: signed with db key 0000000000000000…",
    ),
    (
        "a truncated disk",
        lambda b: (b / "disk.raw").open("r+b").truncate(5 << 20),
        {"file disk.raw", "partition table", "slots", "EFI system partition"},
        "file disk.raw: disk.raw has 5242880 bytes, the manifest says 12582912",
    ),
    (
        "a missing hash tree",
        lambda b: (b / "root.verity").unlink(),
        {"file root.verity", "slots", "hash tree"},
        "is missing",
    ),
    (
        "a missing provenance",
        lambda b: (b / "provenance.dsse.json").unlink(),
        {"provenance", "bill of materials"},
        "provenance.dsse.json is missing",
    ),
]


@pytest.mark.parametrize(("what", "tamper", "seen_by", "message"), TAMPERED, ids=[row[0] for row in TAMPERED])
def test_tampered(
    what: str,
    tamper: Callable[[Path], object],
    seen_by: set[str],
    message: str,
    copy: Path,
    keys: KeySet,
    tools: Sandbox,
) -> None:
    tamper(copy)
    found = failed(verify_directory(copy, keys.public, tools))
    assert set(found) == seen_by, what
    assert any(message in f"{name}: {detail}" for name, detail in found.items()), found


def test_every_check_has_a_broken_twin() -> None:
    covered = {row[0] for row in BAKED} | {name for row in TAMPERED for name in row[2]}
    assert covered == {name for name, _check in CHECKS}


def test_a_broken_manifest_fails_whatever_needs_it(copy: Path, keys: KeySet, tools: Sandbox) -> None:
    (copy / "manifest.json").write_bytes(b"{}")
    found = failed(verify_directory(copy, keys.public, tools))
    assert found["keys"].startswith("manifest.json: not a manifest")
    assert "UKI signature" not in found


def test_another_owners_keys_trust_nothing(good: Path, tools: Sandbox, tmp_path: Path) -> None:
    init_keys(tmp_path / "other", development=True, now=NOW)
    found = failed(verify_directory(good, load_keys(tmp_path / "other").public, tools))
    signed = {"keys", "provenance", "EFI system partition", "UKI signature", "root hash signature", "PCR signature"}
    assert signed | {"IPE policy"} <= set(found)


def test_no_such_directory(keys: KeySet, tools: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such directory"):
        verify_directory(tmp_path / "none", keys.public, tools)


def test_a_file_that_the_manifest_hides_the_change_of(copy: Path, keys: KeySet, tools: Sandbox) -> None:
    """Who changes the disk and the manifest with it still cannot sign the provenance."""
    flip(copy / "disk.raw", offset(copy, "root-b") + 7)
    record: FileRecord = file_record(copy / "disk.raw")
    edit_manifest(copy, lambda m: m["files"].update({"disk.raw": {"sha256": record.sha256, "size": record.size}}))
    assert set(failed(verify_directory(copy, keys.public, tools))) == {"provenance", "slots"}


def test_three_certificates_are_enough(good: Path, keys: KeySet, tools: Sandbox) -> None:
    roles = (Role.DB, Role.PCR, Role.PROVENANCE)
    public = PublicKeys({role: keys.certificate(role) for role in roles}, "three")
    assert failed(verify_directory(good, public, tools)) == {}
