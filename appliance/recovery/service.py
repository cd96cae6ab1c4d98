"""edgeseal-recovery-escrow: once per data partition, a recovery key that only the owner can read.

systemd-cryptenroll makes the key and enrols its slot in one step. Power can fail between that and the escrow file, so
an escrow counts only when its file is complete; without one, the next boot makes a new key and wipes older recovery
slots in the same step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import EdgesealError
from appliance.formats.audit_event import AUDIT_SOCKET
from appliance.formats.recovery import (
    ESCROW_DIRECTORY,
    LUKS_HEADER_BYTES,
    RECOVERY_PUBLIC_KEY,
    Escrow,
    encode_escrow,
    escrow_names,
    luks_uuid,
    verify_escrow,
)
from appliance.machine.audit_client import AuditClient
from appliance.machine.config import read_sealed
from appliance.machine.exec import run
from appliance.machine.notify import say
from appliance.recovery.seal import RecoveryKey, load_recovery_key

ENROL_TIMEOUT_S = 900  # the TPM and the key derivation of an emulated machine


@dataclass(frozen=True)
class Settings:
    """Where things are; a test has its own.

    mark: a file in the volume itself that says the escrow was made; the unit looks at it.
    enrol: makes a recovery key and returns it; afterwards it is the only one of the volume.
    """

    volume: Path = Path("/dev/disk/by-partlabel/data")
    esp: Path = Path("/efi")
    public_key: Path = Path(RECOVERY_PUBLIC_KEY)
    mark: Path = Path("/var/lib/edgeseal-recovery/escrowed")
    audit_socket: str = AUDIT_SOCKET
    enrol: Callable[[Path], bytes] | None = None


def serve(settings: Settings = Settings()) -> None:
    """Escrow a recovery key unless that was done. Raises EdgesealError."""
    volume = luks_uuid(_header(settings.volume))
    if volume is None:
        say("<4>the data partition is not encrypted: there is nothing to recover")
        return
    directory = settings.esp / ESCROW_DIRECTORY
    if _is_escrowed(directory, volume):
        write_durable(settings.mark, f"{volume}\n".encode())
        say(f"<6>the recovery key of {volume} is escrowed")
        return
    audit = AuditClient(settings.audit_socket)
    try:
        key = load_recovery_key(read_sealed(settings.public_key))
        escrow_new_key(settings.volume, volume, directory, key, settings.enrol or enrol_recovery_key)
    except EdgesealError as error:
        audit.try_record("recovery-key-failed", "failure", reason=str(error)[:1024])
        raise
    write_durable(settings.mark, f"{volume}\n".encode())
    audit.try_record("recovery-key-escrowed", volume=volume, key_sha256=key.sha256)
    say(f"<6>the recovery key of {volume} is escrowed for key {key.sha256}")


def escrow_new_key(
    device: Path, volume: str, directory: Path, key: RecoveryKey, enrol: Callable[[Path], bytes]
) -> Escrow:
    """Make a key, encrypt it, write both files durably and read them back. Raises EdgesealError, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    fsync_directory(directory.parent)
    bin_name, json_name = escrow_names(volume)
    (directory / bin_name).unlink(missing_ok=True)
    ciphertext = key.encrypt(enrol(device))
    escrow = Escrow(volume=volume, key_sha256=key.sha256, ciphertext_sha256=hashlib.sha256(ciphertext).hexdigest())
    write_durable(directory / json_name, encode_escrow(escrow))
    write_durable(directory / bin_name, ciphertext)
    return verify_escrow((directory / json_name).read_bytes(), (directory / bin_name).read_bytes(), volume=volume)


def enrol_recovery_key(device: Path) -> bytes:
    """A new recovery key of the volume, unlocked by the TPM; older recovery slots are wiped. Raises EdgesealError."""
    command = [
        "systemd-cryptenroll",
        "--unlock-tpm2-device=auto",
        "--recovery-key",
        "--wipe-slot=recovery",
        str(device),
    ]
    key = run(command, reason="make a recovery key for the data partition", timeout_s=ENROL_TIMEOUT_S).strip()
    if not key:
        raise EdgesealError("systemd-cryptenroll printed no recovery key")
    return key


def _is_escrowed(directory: Path, volume: str) -> bool:
    bin_name, json_name = escrow_names(volume)
    try:
        description, ciphertext = (directory / json_name).read_bytes(), (directory / bin_name).read_bytes()
    except FileNotFoundError:
        return False
    try:
        verify_escrow(description, ciphertext, volume=volume)
    except EdgesealError as error:
        say(f"<4>{error}: a new recovery key is made")
        return False
    return True


def _header(device: Path) -> bytes:
    try:
        with device.open("rb") as stream:
            return stream.read(LUKS_HEADER_BYTES)
    except OSError as error:
        raise EdgesealError(f"cannot read the header of {device}: {error.strerror}") from error
