"""Reads the audit log as a reviewer would: the note's signature, the tree over all entries, then the entries."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.core.errors import VerificationError
from appliance.formats.audit_log import LogEntry, decode_entry
from appliance.formats.checkpoint import decode_checkpoint
from appliance.formats.merkle import leaf_hashes, tree_hash
from appliance.formats.signed_note import VerifierKey, decode_vkey, open_note
from appliance.formats.tlog_tiles import BUNDLE, TILE_WIDTH, Tile, decode_bundle

PROGRAM = """
from pathlib import Path
from appliance.audit.opening import Places
from appliance.audit.service import Settings, serve
from appliance.machine.entry import run_service
base = Path({directory!r})
places = Places(log=base / "tlog", state=base / "state", v1=base / "log")
raise SystemExit(run_service(lambda: serve(Settings(
    config=Path({config!r}), places=places, tpm=base / "no-tpm", uplink_socket={uplink!r}, halt=base / "halt",
    publish_us=0))))
"""
"""edgeseal-audit as a process of a test: the log in `directory`/tlog, the state beside it."""


def audit_program(directory: Path, config: Path, *, uplink: Path | None = None) -> str:
    """Source of the service. uplink: its socket; without it, there is none."""
    return PROGRAM.format(directory=str(directory), config=str(config), uplink=str(uplink or directory / "no-uplink"))


def read_log(directory: Path) -> list[LogEntry]:
    """All entries of an unpruned log, oldest first. Read while the writer writes, it may take several tries."""
    newest: list[LogEntry] = []
    for _ in range(100):
        try:
            files = {path.relative_to(directory).as_posix(): path.read_bytes() for path in _files(directory)}
            found = verified(files)
        except (FileNotFoundError, KeyError):  # the writer went on meanwhile
            continue
        if newest and len(found) == len(newest):
            return found
        newest = found
        time.sleep(0.1)  # what was just acknowledged is published at once after that
    raise AssertionError(f"{directory} cannot be read")


def verified(files: Mapping[str, bytes]) -> list[LogEntry]:
    """files: of the public directory, by path. Raises KeyError for a file that is not there, VerificationError."""
    keys = [decode_vkey(line) for line in files["vkey"].decode().splitlines()]
    opened = open_note(files["checkpoint"], keys[:1], check_signature)
    checkpoint = decode_checkpoint(opened.text)
    entries: list[bytes] = []
    for index in range(-(-checkpoint.size // TILE_WIDTH)):
        width = min(TILE_WIDTH, checkpoint.size - index * TILE_WIDTH)
        entries += decode_bundle(files[Tile(BUNDLE, index, width).path], width)
    if tree_hash(leaf_hashes(entries)) != checkpoint.root:
        raise VerificationError("the entries are not those that were signed")
    return [decode_entry(data, index=index) for index, data in enumerate(entries)]


def check_signature(key: VerifierKey, signature: bytes, message: bytes) -> None:
    """signed_note.Check for Ed25519."""
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except InvalidSignature as error:
        raise VerificationError(f"the signature of {key.name} is wrong") from error


FETCH = """
import base64, pathlib
base = pathlib.Path({directory!r})
size = int((base / "checkpoint").read_bytes().split(b"\\n")[1])
names = ["checkpoint", "vkey"]
for index in range(-(-size // 256)):
    width = min(256, size - index * 256)
    names.append("tile/entries/%03d" % index + ("" if width == 256 else ".p/%d" % width))
result = {{}}
for name in names:
    try:
        result[name] = base64.b64encode((base / name).read_bytes()).decode()
    except FileNotFoundError:
        pass
"""
"""Source that collects on a device what its checkpoint covers, for `fetched`: old partial bundles are far more."""


def fetched(result: Mapping[str, str]) -> dict[str, bytes]:
    """What FETCH left in `result`."""
    return {path: base64.b64decode(data) for path, data in result.items()}


def _files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file()]
