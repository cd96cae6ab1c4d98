"""A disk for the audit log's store, in memory, that knows what a power cut may make of it.

A file's content is safe when the file was synced, a name when its directory was. What was not synced by the cut is
there, or not, or in part: names of one directory in their order, those of several independently; contents by sectors.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from appliance.audit.disk import Disk

SECTOR = 512


@dataclass
class File:
    """safe: content as of the last sync. writes: (offset, data) since then; offset None replaces everything."""

    safe: bytes = b""
    writes: list[tuple[int | None, bytes]] = field(default_factory=list)

    def now(self) -> bytes:
        """As a running system sees it."""
        if not self.writes:
            return self.safe
        content = self.safe
        for write in self.writes:
            content = _written(content, *write)
        return content


@dataclass
class Directory:
    """names: as of now. safe: as of the last sync. changes: since then, in order."""

    names: dict[str, File | Directory] = field(default_factory=dict)
    safe: dict[str, File | Directory] = field(default_factory=dict)
    changes: list[Callable[[dict[str, File | Directory]], object]] = field(default_factory=list)

    def change(self, how: Callable[[dict[str, File | Directory]], object]) -> None:
        """Now, and safe with the next sync."""
        how(self.names)
        self.changes.append(how)


@dataclass(frozen=True)
class Way:
    """How much of what was not synced is there: names and contents, from 0 (nothing) to 1; None: by dice."""

    name: str
    names: float | None
    contents: float | None


WAYS = (
    Way("nothing unsynced", 0, 0),
    Way("everything", 1, 1),
    Way("names without contents", 1, 0),
    Way("torn contents", 1, 0.5),
    Way("sectors", 1, None),
    Way("anything", None, None),
    Way("anything else", None, None),
)


class ModelDisk(Disk):
    """before: called with number and name of each operation before it is done."""

    def __init__(self, root: Directory | None = None, before: Callable[[int, str], None] = lambda number, what: None):
        super().__init__()
        self.root = root or Directory()
        self.before = before
        self.operations = 0

    def read(self, path: Path) -> bytes | None:
        node = self._find(path)
        return node.now() if isinstance(node, File) else None

    def sizes(self, directory: Path) -> dict[str, int]:
        node = self._find(directory)
        names = node.names.items() if isinstance(node, Directory) else ()
        return {name: len(item.now()) for name, item in names if isinstance(item, File)}

    def is_directory(self, path: Path) -> bool:
        return isinstance(self._find(path), Directory)

    def size(self, path: Path) -> int | None:
        data = self.read(path)
        return None if data is None else len(data)

    def write_synced(self, path: Path, data: bytes) -> None:
        self._step(f"create {path.name}")
        node = File(writes=[(None, data)])
        _link(self._directory(path.parent), path.name, node)
        self._step(f"sync {path.name}")
        node.safe, node.writes = data, []

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        self._step(f"write {path.name}")
        node = self._find(path)
        assert isinstance(node, File)
        node.writes.append((offset, data))

    def sync_data(self, path: Path) -> None:
        self._step(f"sync {path.name}")
        node = self._find(path)
        assert isinstance(node, File)
        node.safe, node.writes = node.now(), []

    def rename(self, old: Path, new: Path) -> None:
        self._step(f"rename {old.name} {new.name}")
        source, target, node = self._directory(old.parent), self._directory(new.parent), self._find(old)
        assert node is not None
        if source is target:
            source.change(lambda names: _move(names, old.name, new.name, node))
        else:
            _link(target, new.name, node)
            source.change(lambda names: names.pop(old.name, None))

    def remove(self, path: Path) -> None:
        self._step(f"remove {path.name}")
        parent = self._find(path.parent)
        if isinstance(parent, Directory) and path.name in parent.names:
            parent.change(lambda names: names.pop(path.name, None))

    def make_directory(self, path: Path) -> None:
        self._step(f"mkdir {path.name}")
        if self._find(path) is None:
            _link(self._directory(path.parent), path.name, Directory())

    def remove_directory(self, path: Path) -> None:
        self._step(f"rmdir {path.name}")
        node = self._find(path)
        if isinstance(node, Directory) and not node.names:
            self._directory(path.parent).change(lambda names: names.pop(path.name, None))

    def sync_directory(self, path: Path) -> None:
        self._step(f"sync directory {path.name}")
        node = self._directory(path)
        node.safe, node.changes = dict(node.names), []

    def after_cut(self, way: Way, dice: random.Random) -> ModelDisk:
        """What is there when the power is back."""
        copy = _left(self.root, way, dice, {})
        assert isinstance(copy, Directory)
        return ModelDisk(copy)

    def files(self, directory: Path) -> dict[str, bytes]:
        """Content of every file below, by path."""
        node = self._find(directory)
        return dict(_walk(node, "")) if isinstance(node, Directory) else {}

    def _step(self, what: str) -> None:
        self.before(self.operations, what)
        self.operations += 1

    def _find(self, path: Path) -> File | Directory | None:
        node: File | Directory | None = self.root
        for part in path.parts[1:]:
            node = node.names.get(part) if isinstance(node, Directory) else None
        return node

    def _directory(self, path: Path) -> Directory:
        node = self._find(path)
        if not isinstance(node, Directory):
            raise FileNotFoundError(path)
        return node


def _link(directory: Directory, name: str, node: File | Directory) -> None:
    directory.change(lambda names: names.__setitem__(name, node))


def _move(names: dict[str, File | Directory], old: str, new: str, node: File | Directory) -> None:
    names.pop(old, None)
    names[new] = node


def _walk(directory: Directory, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for name, node in directory.names.items():
        found += [(prefix + name, node.now())] if isinstance(node, File) else _walk(node, f"{prefix}{name}/")
    return found


def _left(node: File | Directory, way: Way, dice: random.Random, seen: dict[int, File | Directory]) -> File | Directory:
    if id(node) in seen:  # renamed over directories: two names of one file
        return seen[id(node)]
    if isinstance(node, File):
        return seen.setdefault(id(node), File(_content(node, way.contents, dice)))
    copy = Directory()
    seen[id(node)] = copy
    names = dict(node.safe)
    share = dice.random() if way.names is None else way.names
    for how in node.changes[: round(len(node.changes) * share)]:
        how(names)
    copy.names = {name: _left(item, way, dice, seen) for name, item in names.items()}
    copy.safe = dict(copy.names)
    return copy


def _content(file: File, share: float | None, dice: random.Random) -> bytes:
    content = file.safe
    for offset, data in file.writes:
        if share is not None:
            part = data[: round(len(data) * share)]
            content = content if share == 0 and offset is not None else _written(content, offset, part)
        else:
            content = _sectors(content, offset, data, dice)
    return content


def _sectors(content: bytes, offset: int | None, data: bytes, dice: random.Random) -> bytes:
    """Some sectors of the write; the file may be as long as it was meant to be, or shorter."""
    start = offset or 0
    mixed = bytearray(b"" if offset is None else content)
    mixed += bytes(max(0, start + len(data) - len(mixed)))
    for at in range(0, len(data), SECTOR):
        if dice.random() < 0.5:
            mixed[start + at : start + at + SECTOR] = data[at : at + SECTOR]
    return bytes(mixed if offset is not None else mixed[: dice.randint(0, len(mixed))])


def _written(content: bytes, offset: int | None, data: bytes) -> bytes:
    if offset is None:
        return data
    padded = content + bytes(max(0, offset - len(content)))
    return padded[:offset] + data + padded[offset + len(data) :]
