"""A log in the layout of C2SP tlog-tiles, written a second time from the specifications, as slowly as they read.

Nothing of the product's Merkle, note or tile code is used: what both agree on is right, or both misread the page.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HEIGHT = 8
WIDTH = 1 << HEIGHT


@dataclass(frozen=True)
class NoteKey:
    """A signer of notes. kind: 0x01 for a log, 0x04 for a witness (needs a time). seed: 32 bytes, made up by a test."""

    name: str
    seed: bytes
    kind: int = 1

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def material(self) -> bytes:
        return bytes([self.kind]) + self.private.public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + self.material).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self.material).decode()}"

    def line(self, text: str, *, time: int = 0) -> str:
        """The signature line over `text`. time: Unix seconds, of a witness."""
        if self.kind == 1:
            signature = self.private.sign(text.encode())
        else:
            signature = time.to_bytes(8, "big") + self.private.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
        return f"— {self.name} {base64.b64encode(self.key_id + signature).decode()}\n"


def named_key(name: str, kind: int = 1, *, variant: str = "") -> NoteKey:
    """A key that follows from its name. variant: another key of the same name."""
    return NoteKey(name, hashlib.sha256(f"{name} {kind} {variant}".encode()).digest(), kind)


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def checkpoint_text(origin: str, entries: Sequence[bytes], *, more: Iterable[str] = ()) -> str:
    root = base64.b64encode(tree_hash([leaf_hash(entry) for entry in entries])).decode()
    return "".join(f"{line}\n" for line in (origin, len(entries), root, *more))


def signed_checkpoint(entries: Sequence[bytes], *keys: NoteKey) -> str:
    """The note for a tree; the first key's name is the origin."""
    text = checkpoint_text(keys[0].name, entries)
    return f"{text}\n" + "".join(key.line(text) for key in keys)


def write_tiles(directory: Path, entries: Sequence[bytes]) -> None:
    """All tiles and bundles of a tree, partial ones included."""
    hashes = [leaf_hash(entry) for entry in entries]
    for number in range(0, len(entries), WIDTH):
        part = entries[number : number + WIDTH]
        data = b"".join(len(entry).to_bytes(2, "big") + entry for entry in part)
        _write(directory / "tile/entries", number // WIDTH, len(part), data)
    level = 0
    while hashes:
        for number in range(0, len(hashes), WIDTH):
            part_hashes = hashes[number : number + WIDTH]
            _write(directory / f"tile/{level}", number // WIDTH, len(part_hashes), b"".join(part_hashes))
        full = len(hashes) // WIDTH
        hashes = [tree_hash(hashes[number * WIDTH : (number + 1) * WIDTH]) for number in range(full)]
        level += 1


def write_naive_log(directory: Path, entries: Sequence[bytes], *keys: NoteKey) -> Path:
    """A whole log, signed by `keys`; the first one's name is the origin."""
    write_tiles(directory, entries)
    (directory / "checkpoint").write_text(signed_checkpoint(entries, *keys))
    return directory


def _write(below: Path, number: int, width: int, data: bytes) -> None:
    parts = [f"{number % 1000:03}"]
    while number := number // 1000:
        parts.insert(0, f"x{number % 1000:03}")
    path = below.joinpath(*parts)
    if width < WIDTH:
        path = path.with_name(f"{path.name}.p") / str(width)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
