"""Where a release's content comes from: a server, or a removable medium. Nothing that it gives is trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.formats.release import Content


@dataclass(frozen=True)
class ByteRange:
    """`length` bytes from `offset` on; length is at least 1."""

    offset: int
    length: int


class ContentSource(Protocol):
    """Reads parts of content files."""

    def read(self, content: Content, ranges: Sequence[ByteRange]) -> Iterator[bytes]:
        """The bytes of each range, in the order asked, each exactly as long as asked; unchecked otherwise.

        Raises EdgesealError when the source cannot be read, is too slow, or gives another length.
        """
