"""A device's log on a real store, a stick to copy it to, and a power that goes while that is done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from appliance.audit.store import TileLog
from appliance.audit.succession import put_aside
from appliance.export.copying import TOP, Copied, copy_logs
from appliance.export.medium import Medium
from appliance.export.tree import Tree
from appliance.formats.signed_note import decode_vkey
from builder.audit.policy import Policy
from builder.audit.verify import Review, verify_log
from tests.support.audit_story import ORIGIN, Story, story
from tests.support.naive_log import named_key

NOBODY = Policy((), {}, {}, None)
HERE = f"{TOP}/line-3/0a1b2c3d"


class Device:
    """Below `directory`: logs/tlog as on a device, and the stick."""

    def __init__(self, directory: Path, *, entries: int = 0) -> None:
        self.logs, self.stick = directory / "logs", directory / "stick"
        self.logs.mkdir()
        self.stick.mkdir()
        self.told = story(boots=1)
        self._begin()
        self.grow(entries - len(self.told.entries))

    def grow(self, count: int) -> None:
        """More entries, published."""
        self.told.fill(max(0, count))
        self.commit()
        self.log.publish()

    def commit(self) -> None:
        """What was said is durable and signed, not yet published."""
        self.log.append(self.told.entries[self.log.size :])
        self.log.commit(self._sign)

    def replace_log(self) -> None:
        """The log is put aside, and another one begins."""
        self.log.close()
        put_aside(self.logs / "tlog", self.logs / "state" / "store")
        origin = ORIGIN.replace("0a1b2c3d", "ffffffff")
        self.told = Story(origin=origin, log_key=named_key(origin))
        self.told.begin(previous="")
        self._begin()
        self.grow(0)

    def copy(self) -> Copied:
        """As the service does."""
        self.medium = Medium(self.stick, TOP)
        return copy_logs(Tree(self.logs, "log"), self.medium)

    def review(self, name: str = HERE) -> Review:
        """What `edgeseal audit verify` says of a copy."""
        key = named_key(ORIGIN) if "0a1b2c3d" in name else self.told.log_key
        return verify_log(self.stick / name, [decode_vkey(key.vkey)], NOBODY, since=None)

    def size_on_stick(self, name: str = HERE) -> int:
        """Of a copy that verifies; 0 without a checkpoint."""
        if not (self.stick / name / "checkpoint").exists():
            return 0
        found = self.review(name)
        assert [finding.sentence() for finding in found.findings] == []
        return found.size

    def files(self) -> dict[str, bytes]:
        """Of the stick."""
        found = sorted(self.stick.rglob("*"))
        return {str(path.relative_to(self.stick)): path.read_bytes() for path in found if path.is_file()}

    def _begin(self) -> None:
        (self.logs / "state").mkdir(exist_ok=True)
        self.log = TileLog.create(self.logs / "tlog", self.logs / "state" / "store", self.told.origin)
        vkeys = [self.told.log_key.vkey, self.told.epoch_keys[0].vkey]
        (self.logs / "tlog" / "vkey").write_text("".join(f"{vkey}\n" for vkey in vkeys))

    def _sign(self, text: str) -> bytes:
        return f"{text}\n{''.join(key.line(text) for key in self.told.signers)}".encode()


class PulledOutError(BaseException):
    """Nothing is written any more."""


@dataclass
class Stick:
    """A disk below `base` that is gone in its operation number `at`, done or not (`done`).

    lose_names: what was made or renamed and whose directory was not synced since is as it was, the last name aside: the
    disk may write in any order. What was written and not synced is always cut in half.
    """

    base: Path
    at: int | None = None
    done: bool = False
    lose_names: bool = False
    count: int = 0
    _data: set[int] = field(default_factory=set)
    _names: list[tuple[Path, Path, bytes | None]] = field(default_factory=list)

    @contextmanager
    def plugged(self) -> Iterator[None]:
        """Everything written in here goes to it."""
        with (
            patch("os.write", self._operation(os.write, self._wrote)),
            patch("os.fsync", self._operation(os.fsync, self._synced)),
            patch("os.rename", self._operation(os.rename, self._renamed)),
            patch("os.mkdir", self._operation(os.mkdir, self._made)),
        ):
            yield

    def damage(self) -> None:
        """What is left after it was pulled out."""
        for path in sorted(self.base.rglob("*")):
            if path.is_file() and path.stat().st_ino in self._data:
                os.truncate(path, path.stat().st_size // 2)
        for _, path, before in reversed(self._names[:-1]) if self.lose_names else ():
            if path.is_dir():
                shutil.rmtree(path)
            elif before is not None:
                path.write_bytes(before)
            else:
                path.unlink(missing_ok=True)

    def _operation(self, real: Callable[..., Any], seen: Callable[..., None]) -> Callable[..., Any]:
        def operation(*words: Any, **options: Any) -> Any:
            if self.at == self.count and not self.done:
                raise PulledOutError
            seen(*words, **options)
            answer = real(*words, **options)
            if self.at == self.count:
                raise PulledOutError
            self.count += 1
            return answer

        return operation

    def _wrote(self, descriptor: int, _data: bytes) -> None:
        self._data.add(os.fstat(descriptor).st_ino)

    def _synced(self, descriptor: int) -> None:
        self._data.discard(os.fstat(descriptor).st_ino)
        path = _path(descriptor)
        self._names = [one for one in self._names if one[0] != path]

    def _renamed(self, _old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        assert _path(src_dir_fd).is_relative_to(self.base)
        directory = _path(dst_dir_fd)
        path = directory / new
        self._names.append((directory, path, path.read_bytes() if path.exists() else None))

    def _made(self, name: str, _mode: int, *, dir_fd: int) -> None:
        directory = _path(dir_fd)
        if not (directory / name).exists():
            self._names.append((directory, directory / name, None))


def _path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
