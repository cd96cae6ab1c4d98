"""The memory of edgeseal-update: its state, and the manifest of the release that is on its way.

Both are replaced durably. The manifest is written before a state that names it, and read only if it has that hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError, VerificationError
from appliance.formats.release import Release, decode_release
from appliance.formats.update_state import UpdateState, decode_state, encode_state

STATE, MANIFEST, BROKEN = "state.json", "release.json", "state.broken"


class Journal:
    """Files in one directory that only this service writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> UpdateState:
        """The state as last saved; an empty one on a new device. Raises DecodeError when the file is damaged."""
        try:
            return decode_state((self._directory / STATE).read_bytes())
        except FileNotFoundError:
            return UpdateState()

    def put_aside(self) -> None:
        """Keep a damaged state for people to look at, and begin anew."""
        (self._directory / STATE).replace(self._directory / BROKEN)

    def save(self, state: UpdateState) -> None:
        """Durable when it returns."""
        write_durable(self._directory / STATE, encode_state(state))

    def keep_release(self, manifest: bytes) -> str:
        """Store the manifest of the next trial; its sha256."""
        write_durable(self._directory / MANIFEST, manifest)
        return hashlib.sha256(manifest).hexdigest()

    def last_release(self) -> Release | None:
        """The manifest that was kept last, which no signature vouches for any more; None when there is none."""
        try:
            return decode_release((self._directory / MANIFEST).read_bytes())
        except (FileNotFoundError, DecodeError):
            return None

    def release(self, sha256: str) -> Release:
        """The manifest that a state names. Raises VerificationError when it is another one, or gone."""
        try:
            manifest = (self._directory / MANIFEST).read_bytes()
        except FileNotFoundError as error:
            raise VerificationError("the manifest of the update under way is gone") from error
        if hashlib.sha256(manifest).hexdigest() != sha256:
            raise VerificationError("the manifest of the update under way is another one")
        try:
            return decode_release(manifest)
        except DecodeError as error:
            raise VerificationError(str(error)) from error
