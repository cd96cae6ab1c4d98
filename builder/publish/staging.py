"""The ceremony that a repository waits for: staged/ceremony.json, and the content that comes with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer

from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import InputError, Place
from builder.host.scratch import scratch_directory
from builder.publish.ceremony import (
    Ceremony,
    change_of,
    decode_ceremony,
    encode_ceremony,
    merge,
    require_current,
    require_signed,
    sign_ceremony,
)
from builder.publish.change import Signers, apply
from builder.publish.install import locked, make_directory, writing
from builder.publish.repository import Repository, open_repository, read_repository, repository_exists
from builder.publish.roles import Periods

STAGED = "staged"
CEREMONY = "ceremony.json"


@dataclass
class Stage:
    """What is being staged. directory: gets content/; ceremony: is set before the block ends.

    repository: as it is now, None when it does not begin before this ceremony is finished.
    """

    directory: Path
    repository: Repository | None
    ceremony: Ceremony | None = None


def ceremony_path(path: Path) -> Path:
    """The file that goes to the key holders."""
    return path / STAGED / CEREMONY


@contextmanager
def staging(path: Path) -> Iterator[Stage]:
    """Stage a ceremony, at once or not at all; the repository is verified first.

    Raises InputError when one is staged already.
    """
    with writing(path):
        make_directory(path)
    with writing(path), locked(path):
        repository = read_repository(path) if repository_exists(path) else None
        refuse_staged(path)
        with scratch_directory(path / ".work", "stage-") as fresh:
            stage = Stage(fresh, repository)
            yield stage
            assert stage.ceremony is not None
            write_durable(fresh / CEREMONY, encode_ceremony(stage.ceremony))
            fresh.rename(path / STAGED)
            fsync_directory(path)


def refuse_staged(path: Path) -> None:
    """Raises InputError when a ceremony waits."""
    if ceremony_path(path).exists():
        waiting = read_ceremony(ceremony_path(path))
        raise InputError(
            f"a ceremony waits for signatures: {waiting.title}",
            place=Place(str(ceremony_path(path))),
            hint="finish it first, or drop it: `edgeseal repo publish --finish` or `--drop`; `edgeseal site finish`",
        )


def read_ceremony(file: Path) -> Ceremony:
    """Raises InputError when there is none, DecodeError or VerificationError when it cannot be trusted."""
    place = Place(str(file))
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise InputError("there is no ceremony", place=place) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place=place) from error
    return decode_ceremony(data, place=place)


def sign_file(file: Path, signer: Signer) -> tuple[Ceremony, list[str]]:
    """Sign a ceremony's file in place; the ceremony and the roles that were signed."""
    ceremony = read_ceremony(file)
    roles = sign_ceremony(ceremony, signer)
    write_durable(file, encode_ceremony(ceremony))
    return ceremony, roles


def finish(path: Path, files: Sequence[Path], online: Signers, *, now: datetime, periods: Periods) -> Repository:
    """Bring the signatures together and put the ceremony in force. files: copies that came back from key holders.

    Signatures that are there are kept also when the threshold is not met yet. Raises VerificationError then.
    """
    staged = ceremony_path(path)
    ceremony = read_ceremony(staged)
    repository = open_repository(path) if repository_exists(path) else None
    if repository is not None and _in_force(ceremony, repository):
        drop(path)  # what an interruption left
        return repository
    require_current(ceremony, repository, place=Place(str(staged)))
    for file in files:
        ceremony = merge(ceremony, read_ceremony(file), place=Place(str(file)))
    if files:
        write_durable(staged, encode_ceremony(ceremony))
    require_signed(ceremony)
    content = tuple(sorted(item for item in (staged.parent / "content").rglob("*") if not item.is_dir()))
    change = replace(change_of(ceremony), content=content)
    repository = apply(path, change, online, now=now, periods=periods)
    drop(path)
    return repository


def _in_force(ceremony: Ceremony, repository: Repository) -> bool:
    found = ((repository.metadata(role), metadata) for role, metadata in ceremony.documents.items())
    return ceremony.identity in (None, repository.identity) and all(
        now is not None and now.signed == metadata.signed for now, metadata in found
    )


def drop(path: Path) -> None:
    """Take a staged ceremony away; nothing when there is none."""
    with locked(path), scratch_directory(path / ".work", "drop-") as scratch:
        if (path / STAGED).exists():
            (path / STAGED).rename(scratch / STAGED)
            fsync_directory(path)
            shutil.rmtree(scratch / STAGED)
