"""Write what a build says of itself: update parts, SBOM, manifest, signed provenance."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from builder.archive.pool import Pool
from builder.boot.uki import SignedUki
from builder.host.paths import source_root
from builder.image.seal import BLOCK, VerityImage
from builder.model.card import Model
from builder.review import facts
from builder.review.collect import collect_packages, collect_wheels
from builder.review.gpt import read_partitions
from builder.review.licences import Licence
from builder.review.manifest import (
    ARTEFACT_NAMES,
    MANIFEST_NAME,
    PROVENANCE_NAME,
    SBOM_NAME,
    FileRecord,
    Manifest,
    PartitionRecord,
    VerityRecord,
    build_manifest,
    encode_manifest,
    file_record,
)
from builder.review.provenance import PAYLOAD_TYPE, make_statement, source_digest
from builder.review.sbom import ImageFacts, make_sbom
from builder.rootfs import layers
from builder.rootfs.assemble import RootTree
from builder.signing.certificates import keyid_of
from builder.signing.dsse import sign_envelope
from builder.signing.keyset import KeySet
from builder.signing.roles import Role

if TYPE_CHECKING:
    from builder.pipeline import Order


def write_evidence(
    order: Order,
    keys: KeySet,
    directory: Path,
    *,
    pool: Pool,
    root: RootTree,
    image: VerityImage,
    uki: SignedUki,
    models: tuple[Model, ...],
    compress: bool,
) -> Manifest:
    """Complete `directory`, which holds disk.raw."""
    shutil.copyfile(image.data, directory / "root.erofs")
    shutil.copyfile(image.hashes, directory / "root.verity")
    (directory / "uki.efi").write_bytes(uki.data)
    with ThreadPoolExecutor() as beside:
        large = {name: beside.submit(file_record, directory / name) for name in ARTEFACT_NAMES if name != SBOM_NAME}
        sbom = _sbom(order, root_record=large["root.erofs"], pool=pool, image=image, models=models)
        (directory / SBOM_NAME).write_bytes(sbom)
        records = {name: record.result() for name, record in large.items()}
    records[SBOM_NAME] = file_record(directory / SBOM_NAME)
    manifest = _manifest(order, keys, directory, root=root, image=image, uki=uki, files=records)
    data = encode_manifest(manifest)
    (directory / MANIFEST_NAME).write_bytes(data)
    statement = make_statement(manifest, data, lock=order.lock, builder_source=source_digest(source_root()))
    (directory / PROVENANCE_NAME).write_bytes(sign_envelope(PAYLOAD_TYPE, statement, keys.signer(Role.PROVENANCE)))
    if compress:
        _compress(directory / "disk.raw")
    for file in sorted(directory.iterdir()):
        file.chmod(0o644)
    return manifest


def _sbom(
    order: Order, *, root_record: Future[FileRecord], pool: Pool, image: VerityImage, models: tuple[Model, ...]
) -> bytes:
    profile, lock = order.profile, order.lock
    sources = {source.name: source for source in profile.software.models}
    model_wheels = {facts.normalised(source.wheel.split("==")[0]) for source in profile.software.models}
    packages = collect_packages(lock, pool, lambda package: layers.package_tree(package, pool))
    wheels = collect_wheels(lock, lambda wheel: layers.wheel_tree(wheel, pool), only_models=model_wheels)
    learned = [
        facts.ModelFacts(
            name=model.name,
            sha256=model.card.sha256,
            size=model.card.bytes,
            licence=Licence(model.card.licence),
            wheel=model.card.source,
            file=sources[model.name].file,
            labels=model.card.labels,
            inputs=model.inputs,
            outputs=model.outputs,
        )
        for model in models
    ]
    return make_sbom(
        ImageFacts(
            product=profile.product,
            profile=profile.name,
            version=profile.version,
            architecture=profile.architecture,
            root_sha256=root_record.result().sha256,
            root_hash=image.root_hash,
        ),
        lock=lock,
        builder_version=installed_version("edgeseal"),
        epoch=lock.epoch,
        packages=packages,
        wheels=wheels,
        models=learned,
    )


def _manifest(
    order: Order,
    keys: KeySet,
    directory: Path,
    *,
    root: RootTree,
    image: VerityImage,
    uki: SignedUki,
    files: Mapping[str, FileRecord],
) -> Manifest:
    profile = order.profile
    return build_manifest(
        product=profile.product,
        profile=profile.name,
        version=profile.version,
        architecture=profile.architecture,
        builder_version=installed_version("edgeseal"),
        development=keys.development,
        keys={role.value: keyid_of(keys.certificate(role)) for role in Role},
        lock_bytes=order.lock_bytes,
        profile_bytes=order.profile_bytes,
        epoch=order.lock.epoch,
        root_hash=image.root_hash,
        verity=VerityRecord(salt=image.salt, uuid=str(image.hash_uuid), data_blocks=image.data_size // BLOCK),
        command_line=uki.command_line,
        partitions=[
            PartitionRecord(label=part.label, type=part.type, uuid=part.uuid, offset=part.offset, size=part.size)
            for part in read_partitions(directory / "disk.raw")
        ],
        files=files,
        tree_digest=root.tree_digest,
    )


def _compress(disk: Path) -> None:
    compressor = zstandard.ZstdCompressor(level=9, threads=2, write_checksum=True)
    with disk.open("rb") as source, disk.with_name("disk.raw.zst").open("wb") as target:
        compressor.copy_stream(source, target, size=disk.stat().st_size)
