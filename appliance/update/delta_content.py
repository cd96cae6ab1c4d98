"""Reads a release's delta content from a source. What comes out of here is what the release says, or it is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.delta_index import (
    Frame,
    Group,
    Table,
    decode_frame,
    decode_groups,
    decode_table,
    groups_limit,
    tables_limit,
)
from appliance.formats.release import BLOCK, Content, Release
from appliance.update.plan import Span, Thing, spans
from appliance.update.ranges import ByteRange, ContentSource

SPANS_AT_ONCE = 32
"""Asked of a source in one go."""


class DeltaContent:
    """The content of one release. bytes_read, ranges: asked of the source so far.

    checkpoint: called before each stretch; it may raise to stop.
    """

    def __init__(self, release: Release, source: ContentSource, checkpoint: Callable[[], None]) -> None:
        self._release, self._source, self._checkpoint = release, source, checkpoint
        self.bytes_read = self.ranges = 0
        _check_sizes(release)

    def groups(self) -> tuple[Group, ...]:
        """The first level, whole. Raises as `decode_groups` does, and EdgesealError when the source fails."""
        content = self._release.delta.groups
        whole = Span(ByteRange(0, content.size), (None,))
        ((_, data),) = self._read(content, [whole])
        return decode_groups(bytes(data), self._release)

    def tables(self, groups: Iterable[Group]) -> Iterator[Table]:
        """The second level of some groups, ascending. Raises as `decode_table` does, or EdgesealError."""
        for span, data in self._in_goes(
            self._release.delta.leaves, spans((group.table_at, group.table, group) for group in groups)
        ):
            for group in span.items:
                at = group.table_at - span.range.offset
                yield decode_table(bytes(data[at : at + group.table]), group)

    def blocks(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bytes | memoryview]]:
        """Some blocks, ascending. Each is to be held against its leaf hash still. Raises as `decode_frame` does, or
        EdgesealError.
        """
        for span, data in self._in_goes(
            self._release.delta.frames, spans((frame.at, frame.size, frame) for frame in frames)
        ):
            for frame in span.items:
                at = frame.at - span.range.offset
                yield frame, decode_frame(data[at : at + frame.size], frame)

    def _in_goes(self, content: Content, wanted: Iterator[Span[Thing]]) -> Iterator[tuple[Span[Thing], memoryview]]:
        while go := list(islice(wanted, SPANS_AT_ONCE)):
            yield from self._read(content, go)

    def _read(self, content: Content, wanted: Sequence[Span[Thing]]) -> Iterator[tuple[Span[Thing], memoryview]]:
        pieces = iter(self._source.read(content, [span.range for span in wanted]))
        for span in wanted:
            self._checkpoint()
            data = next(pieces, b"")
            if len(data) != span.range.length:
                raise EdgesealError(f"{content.path}: {span.range.length} bytes were asked for, {len(data)} came")
            self.bytes_read += len(data)
            self.ranges += 1
            yield span, memoryview(data)


def _check_sizes(release: Release) -> None:
    """Nothing is asked for, and held in memory, that could not belong to such a root."""
    blocks = release.root.size // BLOCK
    for name, limit in (("groups", groups_limit(blocks)), ("leaves", tables_limit(blocks)), ("frames", blocks * BLOCK)):
        size = getattr(release.delta, name).size
        if size > limit:
            raise DecodeError(f"release manifest: delta.{name} has {size} bytes, {blocks} blocks need {limit} at most")
