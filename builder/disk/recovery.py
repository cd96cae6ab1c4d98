"""Open a device's data partition with the owner's recovery key, as the device escrowed it.

Spec: docs/specs/recovery-escrow.md (v1). Input is the device's disk, or a copy of it; nothing on it is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from appliance.core.errors import InputError, Place, VerificationError
from appliance.formats.recovery import (
    LUKS_HEADER_BYTES,
    escrow_names,
    luks_uuid,
    verify_escrow,
)
from builder.host.sandbox import Sandbox
from builder.review.gpt import Partition, read_partitions
from builder.review.opened import open_esp

_CHUNK = 1 << 20
_LUKS2_BYTES = 16 << 20  # header and key slots, as systemd-repart lays them out


@dataclass(frozen=True)
class OpenedVolume:
    """A volume that the escrowed key opens. keyslot: number of the slot; key: in systemd's letters."""

    volume: str
    keyslot: int
    key: str


def open_volume(disk: Path, private_key: rsa.RSAPrivateKey, tools: Sandbox) -> OpenedVolume:
    """Decrypt the escrow on the ESP of `disk` and try the key on the data partition's header.

    Raises InputError when the disk has no data partition or no escrow, VerificationError when the escrow belongs to
    another volume or key, or does not open it.
    """
    partitions = {partition.label: partition for partition in read_partitions(disk)}
    for label in ("esp", "data"):
        if label not in partitions:
            raise InputError(
                f"the disk has no partition {label}",
                place=Place(str(disk)),
                hint="a device makes its data partition, and escrows its key, on the first boot",
            )
    volume = _volume(disk, partitions["data"])
    secret = _decrypt(disk, partitions["esp"], volume, private_key, tools)
    return OpenedVolume(volume, _try(disk, partitions["data"], secret, tools), secret.decode())


def _volume(disk: Path, data: Partition) -> str:
    with disk.open("rb") as stream:
        stream.seek(data.offset)
        header = stream.read(LUKS_HEADER_BYTES)
    volume = luks_uuid(header)
    if volume is None:
        raise InputError("the data partition is not encrypted", place=Place(str(disk)))
    return volume


def _decrypt(disk: Path, esp: Partition, volume: str, private_key: rsa.RSAPrivateKey, tools: Sandbox) -> bytes:
    ciphertext_name, description_name = escrow_names(volume)
    with _esp_copy(disk, esp) as copy, open_esp(copy, 0, tools) as files:
        found = {path.rsplit("/", 1)[-1].lower(): file for path, file in files.items()}
        if ciphertext_name not in found or description_name not in found:
            raise InputError(
                f"the ESP has no escrow for volume {volume}",
                place=Place(str(disk)),
                hint="the escrow is written on the first boot; did the device get that far?",
            )
        ciphertext = found[ciphertext_name].read_bytes()
        verify_escrow(found[description_name].read_bytes(), ciphertext, volume=volume)
    pad = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    try:
        return private_key.decrypt(ciphertext, pad)
    except ValueError as error:
        raise VerificationError("this recovery key does not decrypt the escrow: it is for another owner") from error


def _try(disk: Path, data: Partition, secret: bytes, tools: Sandbox) -> int:
    with _header_copy(disk, data) as copy:
        said = tools.run(
            ["cryptsetup", "open", "--test-passphrase", "--verbose", "--type=luks2", "--key-file=-", copy],
            reason="open the volume with the escrowed key",
            stdin=secret,
            writable=[copy.parent],
        ).decode()
    match = re.search(r"Key slot (\d+) unlocked", said)
    if match is None:
        raise VerificationError("the escrowed key does not open the volume")
    return int(match[1])


@contextmanager
def _header_copy(disk: Path, data: Partition) -> Iterator[Path]:
    """A sparse file of the partition's size with only the LUKS header in it."""
    with _partition_copy(disk, data, min(_LUKS2_BYTES, data.size)) as copy:
        yield copy


@contextmanager
def _esp_copy(disk: Path, esp: Partition) -> Iterator[Path]:
    """The EFI system partition as a file: the sandbox of the tools that read it has no block devices."""
    with _partition_copy(disk, esp, esp.size) as copy:
        yield copy


@contextmanager
def _partition_copy(disk: Path, partition: Partition, length: int) -> Iterator[Path]:
    """A sparse file of the partition's size with its first `length` bytes in it."""
    with TemporaryDirectory(prefix="edgeseal-") as name:
        copy = Path(name, partition.label)
        with disk.open("rb") as stream, copy.open("wb") as output:
            for at in range(0, length, _CHUNK):
                stream.seek(partition.offset + at)
                chunk = stream.read(min(_CHUNK, length - at))
                if chunk.strip(b"\0"):
                    output.seek(at)
                    output.write(chunk)
            output.truncate(partition.size)
        yield copy
