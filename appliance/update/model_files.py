"""The directory of one model on the data partition: the few things that are done to its files, each durable.

Spec: docs/specs/model-store.md. Modes do not depend on the umask: the inference service reads here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import EdgesealError

_CHUNK = 1 << 20


class ModelFiles:
    """Files of one directory, which is made when the first is written. Everything here raises EdgesealError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by name; a temporary file that a power cut left is one too."""
        with self._explained("read"):
            if not self.directory.is_dir():
                return {}
            return {path.name: path.lstat().st_size for path in self.directory.iterdir()}

    def read(self, name: str, *, at_most: int) -> bytes | None:
        """The first `at_most` bytes and one more, if there are more; None when there is no such file."""
        with self._explained("read"):
            try:
                with (self.directory / name).open("rb") as stream:
                    return stream.read(at_most + 1)
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """A whole file, in the place of an older one. Durable."""
        with self._explained("write"):
            self._make()
            write_durable(self.directory / name, data)

    def append(self, name: str, offset: int, data: bytes) -> None:
        """At `offset`, where the file is cut off before. Durable after `sync`."""
        with self._explained("write"):
            self._make()
            descriptor = os.open(self.directory / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, offset)
                view = memoryview(data)
                while view:
                    written = os.pwrite(descriptor, view, offset)
                    view, offset = view[written:], offset + written
            finally:
                os.close(descriptor)

    def sync(self, name: str) -> None:
        """Down to the disk, and forgotten by the page cache: what is read next comes from the disk."""
        with self._explained("write"):
            descriptor = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
            fsync_directory(self.directory)

    def publish(self, name: str, final: str) -> None:
        """Rename a synced file, and let everybody read it. Durable."""
        with self._explained("write"):
            descriptor = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            (self.directory / name).replace(self.directory / final)
            fsync_directory(self.directory)

    def remove(self, name: str) -> None:
        """Nothing when it is gone already. Durable."""
        with self._explained("write"):
            (self.directory / name).unlink(missing_ok=True)
            fsync_directory(self.directory)

    def digest(self, name: str, *, progress: Callable[[], None]) -> str:
        """Lower-case hex SHA-256 of a file; of nothing when it is not there."""
        found = hashlib.sha256()
        with (
            self._explained("read"),
            contextlib.suppress(FileNotFoundError),
            (self.directory / name).open("rb") as file,
        ):
            while chunk := file.read(_CHUNK):
                found.update(chunk)
                progress()
        return found.hexdigest()

    def _make(self) -> None:
        for directory in (self.directory.parent, self.directory):
            if not directory.is_dir():
                directory.mkdir()
                directory.chmod(0o755)
                fsync_directory(directory.parent)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise EdgesealError(f"cannot {what} model {self.directory.name}: {reason}") from error
