"""The delta index and the frames of a root, and the one way in which a file becomes content of a repository.

Spec: docs/specs/delta-index.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from appliance.core.durable import fsync_directory
from appliance.core.errors import VerificationError
from appliance.formats.delta_index import DIGEST, Group, cut_groups, encode_frame, encode_groups, encode_table
from appliance.formats.release import BLOCK, Content, Delta, Root
from builder.archive.digest import file_sha256
from builder.archive.pool import copy_durably
from builder.host.scratch import scratch_file
from builder.review.verity import compute_tree

_CHUNK = 1 << 20


@dataclass(frozen=True)
class DeltaStatistics:
    """Of one root. groups, blocks, deflated: how many; the files' sizes are in `delta`."""

    delta: Delta
    groups: int
    blocks: int
    deflated: int


def make_delta(image: Path, root: Root, repository: Path) -> DeltaStatistics:
    """Write groups, leaves and frames of `image` below `repository`/content, durably. What is there already stays.

    root: as the release says; the image is hashed and held against it. Raises VerificationError when it is another.
    """
    _check_image(image, root)
    leaves = _cut_leaves(image, bytes.fromhex(root.salt))
    groups: list[Group] = []
    tables = bytearray()
    with scratch_file(repository / "content", ".frames-") as temporary:
        with temporary.open("wb") as output:
            frames = _frames(image)
            for first, count in cut_groups(leaves):
                own = [next(frames) for _ in range(count)]
                table, *digests = encode_table(leaves[first * DIGEST : (first + count) * DIGEST], own)
                at, size = output.tell(), output.write(b"".join(own))
                deflated = sum(len(frame) < BLOCK for frame in own)
                groups.append(Group(first, count, deflated, len(tables), at, size, digests[0], digests[1]))
                tables += table
        delta = Delta(
            groups=add_content_bytes(encode_groups(groups), repository),
            leaves=add_content_bytes(bytes(tables), repository),
            frames=add_content(temporary, repository),
        )
    blocks = len(leaves) // DIGEST
    return DeltaStatistics(delta, len(groups), blocks, sum(group.deflated for group in groups))


def add_content(source: Path, repository: Path) -> Content:
    """Copy a file to content/SHA256[:2]/SHA256, durably; whole or not at all. One that is there and right stays."""
    content = Content(sha256=file_sha256(source), size=source.stat().st_size)
    target = repository / content.path
    if target.is_file() and file_sha256(target) == content.sha256:
        return content
    with scratch_file(repository / "content", ".incoming-") as temporary:
        found = copy_durably(source, temporary)
        if found != content.sha256:
            raise VerificationError(f"{source.name} changed while it was read")
        _move(temporary, target)
    return content


def add_content_bytes(data: bytes, repository: Path) -> Content:
    """The same for bytes in memory."""
    with scratch_file(repository / "content", ".bytes-") as temporary:
        temporary.write_bytes(data)
        return add_content(temporary, repository)


def _move(temporary: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(target)
    for directory in (target.parent, target.parent.parent, target.parent.parent.parent):
        fsync_directory(directory)


def _check_image(image: Path, root: Root) -> None:
    tree = compute_tree(image, salt=bytes.fromhex(root.salt), uuid=root.uuid)
    for what, found, said in (
        ("{} bytes", image.stat().st_size, root.size),
        ("a hash tree of {} bytes", len(tree.area), root.hash_size),
        ("the root hash {}", tree.root_hash, root.root_hash),
    ):
        if found != said:
            raise VerificationError(f"{image.name} has {what.format(found)}, the release says {said}")


def _blocks(image: Path) -> Iterator[bytes]:
    with image.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield from (chunk[at : at + BLOCK] for at in range(0, len(chunk), BLOCK))


def _cut_leaves(image: Path, salt: bytes) -> bytes:
    salted, leaves = hashlib.sha256(salt), bytearray()
    for block in _blocks(image):
        state = salted.copy()
        state.update(block)
        leaves += state.digest()[:DIGEST]
    return bytes(leaves)


def _frames(image: Path) -> Iterator[bytes]:
    """One per block, in order, deflated on all cores."""
    with ThreadPoolExecutor() as workers, image.open("rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            blocks = [chunk[at : at + BLOCK] for at in range(0, len(chunk), BLOCK)]
            yield from workers.map(encode_frame, blocks)
