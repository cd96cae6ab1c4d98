"""Fetches a model: by ranges, from where it stopped, and verified as a whole before it gets its name.

Nothing in the model is looked at; nobody else opens the file before it was read back and has its hash.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.model_store import PendingModel, part_file
from appliance.formats.release import Content
from appliance.update.model_files import ModelFiles
from appliance.update.model_store import ModelStore
from appliance.update.ranges import ByteRange, ContentSource
from appliance.update.staging import StoppedError
from appliance.update.transport import TransportError

PIECE = 256 << 10
"""Bytes that are held in memory."""
STRETCH = 4 << 20
"""Bytes between two syncs, and so the most that is fetched again after a power cut."""


class Fetcher:
    """Carries models into a store. progress: called often, with bytes done and bytes in all.

    should_stop: asked after each piece. It remembers how far each file is durable; a new one has to assume less.
    """

    def __init__(
        self,
        store: ModelStore,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
        piece: int = PIECE,
        stretch: int = STRETCH,
    ) -> None:
        self._store = store
        self._progress = progress
        self._should_stop = should_stop
        self._piece, self._stretch = piece, stretch
        self._durable: dict[tuple[str, str], int] = {}
        self.fetched = 0
        """Bytes that came from outside, in all."""

    def fetch(self, pending: PendingModel, sources: Sequence[ContentSource]) -> None:
        """Make it current. sources: tried in turn; each goes on where the one before it stopped.

        Raises StoppedError, TransportError when none of them delivers, VerificationError when what came is another
        file (it is thrown away then), EdgesealError when the disk fails.
        """
        release = self._store.release(pending.model, pending.version, pending.release)
        fault: EdgesealError = TransportError("there is neither a network nor a medium to take the model from")
        for source in sources:
            try:
                self._fill(pending, release.onnx, source)
                self._verify(pending, release.onnx)
            except (TransportError, VerificationError, DecodeError) as error:
                fault = error
            else:
                self._store.finish(pending)
                self._durable.pop((pending.model, pending.release), None)
                return
        raise fault

    def _fill(self, pending: PendingModel, content: Content, source: ContentSource) -> None:
        files, part = self._store.files(pending.model), part_file(pending.version)
        done = synced = self._begun(pending, content)
        ranges = [ByteRange(at, min(self._piece, content.size - at)) for at in range(done, content.size, self._piece)]
        pieces = source.read(content, ranges) if ranges else iter(())
        try:
            for wanted in ranges:
                data = next(pieces, b"")
                if len(data) != wanted.length:
                    raise TransportError(f"{content.path}: {wanted.length} bytes were asked for, {len(data)} came")
                files.append(part, done, data)
                done += len(data)
                self.fetched += len(data)
                if done - synced >= self._stretch:
                    synced = self._sync(files, pending, done)
                self._progress(done, content.size)
                if self._should_stop() and done < content.size:
                    raise StoppedError(f"{done} of {content.size} bytes are here")
        finally:
            if isinstance(pieces, Generator):
                pieces.close()  # its connection is free again
            if done > synced:
                self._sync(files, pending, done)

    def _sync(self, files: ModelFiles, pending: PendingModel, done: int) -> int:
        files.sync(part_file(pending.version))
        self._durable[pending.model, pending.release] = done
        return done

    def _begun(self, pending: PendingModel, content: Content) -> int:
        """How far the part is durable for sure: of what another process wrote, all but the last stretch."""
        found = self._durable.get((pending.model, pending.release))
        if found is not None:
            return found
        size = min(self._store.files(pending.model).sizes().get(part_file(pending.version), 0), content.size)
        return max(0, -(-size // self._stretch) - 1) * self._stretch

    def _verify(self, pending: PendingModel, content: Content) -> None:
        """Read back from the disk."""
        files, part = self._store.files(pending.model), part_file(pending.version)
        found = files.digest(part, progress=lambda: self._progress(content.size, content.size))
        if found != content.sha256 or files.sizes().get(part) != content.size:
            self._durable.pop((pending.model, pending.release), None)
            files.remove(part)
            what = f"version {pending.version} of model {pending.model}"
            raise VerificationError(f"{what}: sha256 {found} came, {content.sha256} is signed")
