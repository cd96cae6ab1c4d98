"""The checks of `edgeseal verify`, one function each: returns what was found, raises EdgesealError when it is wrong.

They start from the public keys and believe nothing else: signatures are verified, hashes computed again, and the disk
is compared with the parts that it was composed of.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from pathlib import Path

from appliance.core.errors import DecodeError, VerificationError
from builder.review.blocks import compare_slot, require_zero, unpartitioned
from builder.review.erofs import ErofsImage
from builder.review.evidence import Evidence
from builder.review.manifest import ARTEFACT_NAMES
from builder.review.provenance import check_statement
from builder.review.sbomcheck import check_contents, check_sbom
from builder.review.verity import check_tree
from builder.signing.authenticode import verify_pe
from builder.signing.certificates import keyid_of
from builder.signing.cms import verify_cms
from builder.signing.pcrpolicy import PHASE_DATA, measure_uki, pcr_public_key, verify_pcr_policy
from builder.signing.roles import Role

_FALLBACK = {"x86_64": "/EFI/BOOT/BOOTX64.EFI", "arm64": "/EFI/BOOT/BOOTAA64.EFI"}
_UKI_PATH = re.compile(r"/EFI/Linux/edgeseal_(?P<version>[0-9]+)(\+[0-9]+(-[0-9]+)?)?\.efi")
_SLOT_CONTENTS = {"root-a": "root.erofs", "root-a-verity": "root.verity"}
_EMPTY_SLOTS = ("root-b", "root-b-verity")
_NEEDED_ROLES = (Role.DB, Role.PCR, Role.PROVENANCE)
_IPE_DIRECTORY = "/usr/lib/ipe/"
_IPE_MUST_DENY = ("EXECUTE", "FIRMWARE", "KMODULE", "KEXEC_IMAGE", "KEXEC_INITRAMFS")


def check_keys(evidence: Evidence) -> str:
    """The manifest names the keys that are trusted here, and says honestly whether they are development keys."""
    manifest = evidence.manifest
    for role in _NEEDED_ROLES:
        if role.value not in manifest.keys:
            raise VerificationError(f"the manifest names no {role.value} key")
    for name, keyid in sorted(manifest.keys.items()):
        if name not in {role.value for role in Role}:
            raise VerificationError(f"the manifest names a key for an unknown role {name}")
        role = Role(name)
        if role not in _NEEDED_ROLES and role not in evidence.keys.certificates:
            continue  # nothing in the artefacts is signed with it
        trusted = keyid_of(evidence.keys.certificate(role))
        if keyid != trusted:
            raise VerificationError(f"signed with {name} key {keyid[:16]}…, trusted is {trusted[:16]}…")
    if manifest.development != evidence.keys.development:
        raise VerificationError(
            f"the manifest says development is {manifest.development}, the keys say {evidence.keys.development}"
        )
    return f"{len(manifest.keys)} keys{', DEVELOPMENT' if manifest.development else ''}"


def check_provenance(evidence: Evidence) -> str:
    """A trusted key signed the statement, and it is about exactly these artefacts."""
    inputs = check_statement(evidence.statement, evidence.manifest, evidence.manifest_bytes)
    return f"signed, {len(evidence.statement.subject)} artefacts from {inputs} inputs"


def check_file(name: str) -> Callable[[Evidence], str]:
    """One artefact has the size and the hash that the manifest says."""

    def check(evidence: Evidence) -> str:
        record, path = evidence.manifest.files[name], evidence.path(name)
        if path.stat().st_size != record.size:
            raise VerificationError(f"{name} has {path.stat().st_size} bytes, the manifest says {record.size}")
        found = evidence.sha256(path)
        if found != record.sha256:
            raise VerificationError(f"{name}: sha256 is {found}, the manifest says {record.sha256}")
        return f"sha256 {found}"

    return check


def check_partitions(evidence: Evidence) -> str:
    """The two tables agree, and with the manifest; there is nothing between the partitions."""
    found = [(item.label, item.type, item.uuid, item.offset, item.size) for item in evidence.partitions]
    said = [(item.label, item.type, item.uuid, item.offset, item.size) for item in evidence.manifest.partitions]
    if found != said:
        labels = sorted({str(item[0]) for item in set(found) ^ set(said)})
        raise VerificationError(f"the partition table differs from the manifest: {', '.join(labels)}")
    disk = evidence.path("disk.raw")
    for start, end in unpartitioned(disk.stat().st_size, evidence.partitions):
        require_zero(disk, start, end, "between the partitions")
    return f"{len(found)} partitions, both tables equal, nothing between them"


def check_slots(evidence: Evidence) -> str:
    """Slot A holds root.erofs and root.verity and nothing else, slot B nothing."""
    disk = evidence.path("disk.raw")
    for label, name in _SLOT_CONTENTS.items():
        compare_slot(disk, evidence.partition(label), evidence.path(name))
    for label in _EMPTY_SLOTS:
        slot = evidence.partition(label)
        require_zero(disk, slot.offset, slot.offset + slot.size, f"in partition {label}")
    return "slot A holds root.erofs and root.verity, slot B is empty"


def check_esp(evidence: Evidence) -> str:
    """Only signed programs on the EFI system partition: the boot loader and this UKI."""
    loader = _FALLBACK[evidence.manifest.architecture]
    if loader not in evidence.esp:
        raise VerificationError(f"the EFI system partition has no {loader}")
    kernels = [path for path in evidence.esp if path.startswith("/EFI/Linux/")]
    versions = [match["version"] for path in kernels if (match := _UKI_PATH.fullmatch(path))]
    if versions != [str(evidence.manifest.version)] or len(kernels) != 1:
        raise VerificationError(f"the EFI system partition has the kernels {kernels}, not the one of this version")
    if evidence.esp[kernels[0]].read_bytes() != evidence.uki:
        raise VerificationError(f"{kernels[0]} on the EFI system partition is not uki.efi")
    programs = [path for path, file in evidence.esp.items() if _is_program(path, file)]
    if extra := sorted(set(programs) - {loader, kernels[0]}):
        raise VerificationError(f"the EFI system partition has a program more: {', '.join(extra)}")
    verify_pe(evidence.esp[loader].read_bytes(), evidence.certificate(Role.DB))
    return f"{loader} signed, {kernels[0]} equals uki.efi"


def check_uki(evidence: Evidence) -> str:
    """The db key signed the UKI."""
    verify_pe(evidence.uki, evidence.certificate(Role.DB))
    return f"signed, {len(evidence.uki)} bytes"


def check_command_line(evidence: Evidence) -> str:
    """It is the manifest's, it names this root and its hash once each, and nothing in it weakens what was checked."""
    found = evidence.command_line
    if found != evidence.manifest.command_line:
        raise VerificationError("the command line of uki.efi is not the manifest's")
    words = found.split()
    expected = {
        "roothash": evidence.manifest.root_hash,
        "systemd.verity_root_data": f"UUID={ErofsImage(evidence.path('root.erofs')).uuid}",
        "systemd.verity_root_hash": f"UUID={evidence.manifest.verity.uuid}",
    }
    for name, value in expected.items():
        said = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
        if said != [value]:
            raise VerificationError(f"the command line says {name}={','.join(said) or 'nothing'}, it must be {value}")
    for needed in ("dm_verity.require_signatures=1", "module.sig_enforce=1", "ipe.enforce=1"):
        if needed not in words:
            raise VerificationError(f"the command line does not say {needed}")
    for word in words:
        if word.partition("=")[0] in ("init", "rdinit", "systemd.debug_shell", "rd.break", "systemd.unit"):
            raise VerificationError(f"the command line says {word}")
    return f"{len(words)} words, roothash={evidence.manifest.root_hash[:16]}…"


def check_hash_tree(evidence: Evidence) -> str:
    """The hash tree is the one over root.erofs, computed here, and has the root hash."""
    if evidence.tree.root_hash != evidence.manifest.root_hash:
        raise VerificationError(
            f"the root hash of root.erofs is {evidence.tree.root_hash}, the manifest says {evidence.manifest.root_hash}"
        )
    size = check_tree(evidence.path("root.verity"), evidence.tree)
    return f"computed again, {size} bytes equal"


def check_root_hash_signature(evidence: Evidence) -> str:
    """The db key signed the root hash that root.erofs has."""
    match = re.search(r"(?:^|[ ,=])root-hash-signature=base64:([A-Za-z0-9+/=]+)", evidence.command_line)
    if match is None:
        raise VerificationError("the command line has no root hash signature")
    try:
        signature = base64.b64decode(match[1], validate=True)
    except binascii.Error as error:
        raise DecodeError("the root hash signature is not base64") from error
    verify_cms(signature, evidence.tree.root_hash.encode(), evidence.certificate(Role.DB))
    return f"CMS, {len(signature)} bytes"


def check_pcr_signature(evidence: Evidence) -> str:
    """The trusted PCR key signed the PCR 11 policy that this UKI leads to, and no other."""
    certificate = evidence.keys.certificate(Role.PCR)
    sections = evidence.uki_sections
    if sections.get(".pcrpkey") != pcr_public_key(certificate):
        raise VerificationError("the PCR key in uki.efi is not the trusted one")
    if ".pcrsig" not in sections:
        raise VerificationError("uki.efi has no PCR signature")
    verify_pcr_policy(sections[".pcrsig"], measure_uki(sections), certificate)
    return f"measured again, phase {PHASE_DATA}"


def check_ipe_policy(evidence: Evidence) -> str:
    """Every IPE policy in the root is signed by the db key and denies by default what must be denied."""
    policies = [path for path in evidence.root.by_path if path.startswith(_IPE_DIRECTORY) and path.endswith(".p7b")]
    if not policies:
        raise VerificationError("the root has no IPE policy")
    for path in policies:
        text = verify_cms(evidence.root.read(path), None, evidence.certificate(Role.DB)).decode(errors="replace")
        name = path.removeprefix(_IPE_DIRECTORY).removesuffix(".p7b")
        if f"policy_name={name}" not in text.split():
            raise VerificationError(f"{path}: the policy in it is not named {name}")
        lines = {" ".join(line.split()) for line in text.splitlines()}
        for operation in _IPE_MUST_DENY:
            if f"DEFAULT op={operation} action=DENY" not in lines:
                raise VerificationError(f"{path}: {operation} is not denied by default")
        for line in sorted(lines):
            if line.endswith("action=ALLOW") and line.startswith("op=") and "dmverity_signature=TRUE" not in line:
                raise VerificationError(f"{path}: allows without a signed root: {line}")
    return f"{len(policies)} signed, denies by default"


def check_root(evidence: Evidence) -> str:
    """The tree has the manifest's digest, every time is the epoch, and os-release tells the same story."""
    manifest, root = evidence.manifest, evidence.root
    found = root.digest()
    if found != manifest.tree_digest:
        raise VerificationError(f"the tree digest of root.erofs is {found}, the manifest says {manifest.tree_digest}")
    for node in root.nodes:
        if node.mtime != manifest.epoch:
            raise VerificationError(f"{node.path} has the time {node.mtime}, the epoch is {manifest.epoch}")
    release = dict(line.split("=", 1) for line in root.text("/usr/lib/os-release").splitlines() if "=" in line)
    variant = "development" if manifest.development else "release"
    for key, value in (
        ("IMAGE_ID", manifest.product),
        ("IMAGE_VERSION", str(manifest.version)),
        ("VARIANT_ID", variant),
    ):
        if release.get(key, "").strip('"') != value:
            raise VerificationError(f"os-release says {key}={release.get(key)}, the manifest says {value}")
    return f"{len(root.nodes)} paths, tree digest {found[:16]}…"


def check_bill(evidence: Evidence) -> str:
    """The bill of materials is valid CycloneDX, and lists exactly the inputs that the signed provenance names."""
    return check_sbom(evidence.sbom, evidence.manifest, evidence.statement)


def check_bill_contents(evidence: Evidence) -> str:
    """Every model and every Python distribution in the root is in the bill of materials."""
    return check_contents(evidence.sbom, evidence.root)


CHECKS: tuple[tuple[str, Callable[[Evidence], str]], ...] = (
    ("keys", check_keys),
    ("provenance", check_provenance),
    *((f"file {name}", check_file(name)) for name in ARTEFACT_NAMES),
    ("partition table", check_partitions),
    ("slots", check_slots),
    ("EFI system partition", check_esp),
    ("UKI signature", check_uki),
    ("command line", check_command_line),
    ("hash tree", check_hash_tree),
    ("root hash signature", check_root_hash_signature),
    ("PCR signature", check_pcr_signature),
    ("IPE policy", check_ipe_policy),
    ("root tree", check_root),
    ("bill of materials", check_bill),
    ("bill covers contents", check_bill_contents),
)


def _is_program(path: str, file: Path) -> bool:
    with file.open("rb") as stream:
        return path.lower().endswith(".efi") or stream.read(2) == b"MZ"
