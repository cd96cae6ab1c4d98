"""Where a repository's files come from, and how that fails. No trust here: whatever comes is checked by others.

A TransportError is a fault of the network, of the server or of the medium; nothing is said about the repository then.
"""

from __future__ import annotations

from typing import Protocol

from appliance.core.errors import EdgesealError


class TransportError(EdgesealError):
    """A file could not be had."""


class NotThereError(TransportError):
    """The server has no such file, or does not give it to us (404, 403)."""


class InterruptedTransferError(TransportError):
    """A fault that may pass: no connection, a lost one, a server in trouble. The same question may be asked again."""


class TooMuchDataError(TransportError):
    """More bytes than are allowed; what came was thrown away."""


class TooSlowError(TransportError):
    """The bytes come so slowly that it may be on purpose."""


class FileSource(Protocol):
    """Reads small files of a repository: a server, or a removable medium."""

    def get(self, path: str, *, at_most: int) -> bytes:
        """The whole file. path: below the repository's base, `metadata/…` or `targets/…`, percent-encoded as in a URL.

        Raises TransportError; NotThereError when the file does not exist, TooMuchDataError as soon as it is known to
        have more than `at_most` bytes. A source that maps `path` to a file system must not leave its base.
        """
