"""What an answer of an HTTP server must be like, and how ranges become requests. Pure: no socket, no library."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from appliance.update.ranges import ByteRange
from appliance.update.transport import InterruptedTransferError, NotThereError, TransportError

CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)


def check_answer(what: str, status: int, headers: Mapping[str, str], span: ByteRange | None, size: int | None) -> None:
    """Whether an answer's body may be read. span: the part that was asked for, None for a whole file; size: the file's.

    headers: names in any case. what: begins the messages. Raises TransportError.
    """
    if status in (403, 404):
        raise NotThereError(f"{what}: the server has no such file ({status})")
    if status in (408, 429) or status >= 500:
        raise InterruptedTransferError(f"{what}: the server is in trouble ({status})")
    if 300 <= status < 400:
        raise TransportError(f"{what}: the server sends us elsewhere ({status}); redirects are not followed")
    if span is not None and status == 200:
        raise TransportError(f"{what}: the server sends the whole file, not the part that was asked for")
    if status != (200 if span is None else 206):
        raise TransportError(f"{what}: the server answers {status}")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise TransportError(f"{what}: the server compresses, which was not asked for")
    if span is not None and size is not None:
        asked = (span.offset, span.offset + span.length - 1, size)
        said = headers.get("Content-Range", "")
        found = CONTENT_RANGE.fullmatch(said)
        if found is None or tuple(map(int, found.groups())) != asked:
            raise TransportError(f"{what}: bytes {asked[0]}-{asked[1]}/{size} were asked for, the answer has {said!r}")


def runs(ranges: Sequence[ByteRange]) -> Iterator[list[ByteRange]]:
    """Neighbours whose bytes touch."""
    run: list[ByteRange] = []
    for part in ranges:
        if run and run[-1].offset + run[-1].length != part.offset:
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def cut(stream: Iterator[bytes], run: Sequence[ByteRange]) -> Iterator[bytes]:
    """The stream, which is as long as the run, in the run's pieces."""
    buffer = bytearray()
    for part in run:
        while len(buffer) < part.length:
            buffer += next(stream)
        yield bytes(buffer[: part.length])
        del buffer[: part.length]
