"""Take a pool elsewhere and bring it back: one uncompressed tar of items named by their hash.

An offline machine, an archive for decades: what a lock names, in a form that any tar reads and sha256sum checks.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from appliance.core.durable import fsync_directory
from appliance.core.errors import DecodeError, InputError, Place
from builder.archive.pool import Pool

_PREFIX = "sha256/"
_NAME = re.compile("[0-9a-f]{64}")


def export_pool(pool: Pool, items: Iterable[str], target: Path, *, epoch: int) -> int:
    """Write the items, sorted, to the tar file `target`, and return how many. Same items, same bytes.

    Raises InputError when an item is missing, VerificationError when its bytes changed; nothing is left then.
    """
    names = sorted(set(items))
    temporary = target.with_name(f".{target.name}.writing")
    try:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name in names:
                path = pool.open_verified(name, what=f"item {name[:16]}…")
                info = tarfile.TarInfo(_PREFIX + name)
                info.size, info.mtime, info.mode = path.stat().st_size, epoch, 0o644
                with path.open("rb") as stream:
                    tar.addfile(info, stream)
        temporary.replace(target)
        fsync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return len(names)


def import_pool(pool: Pool, source: Path) -> int:
    """Take every item of an exported tar, hashed on the way in, and return how many.

    Raises InputError when there is no such file, DecodeError for another kind of file, VerificationError for an item
    whose bytes are not what its name says. Items before it stay: each is whole and right by itself.
    """
    try:
        tar = tarfile.open(source, "r:")  # noqa: SIM115  closed by the `with` below
    except FileNotFoundError as error:
        raise InputError("there is no such file", place=Place(str(source))) from error
    except tarfile.TarError as error:
        raise DecodeError(f"not an exported pool: {error}", place=Place(str(source))) from error
    count = 0
    with tar, TemporaryDirectory(dir=source.parent if source.parent.is_dir() else None) as scratch:
        for member in tar:
            name = member.name.removeprefix(_PREFIX)
            if not member.isfile() or not member.name.startswith(_PREFIX) or not _NAME.fullmatch(name):
                raise DecodeError(f"not an exported pool: it holds {member.name}", place=Place(str(source)))
            handle = tar.extractfile(member)
            assert handle is not None
            item = Path(scratch, "item")
            with item.open("wb") as output:
                while chunk := handle.read(1 << 20):
                    output.write(chunk)
            pool.add(item, sha256=name, what=f"item {name[:16]}… of {source.name}")
            count += 1
    return count
