"""The log's own key and the key of the present epoch, over power cuts. See docs/adr/0029.

The change to a new epoch: 1. the next key is written beside the present one, its name and its place in the log are
noted; 2. the entry `epoch-began` is committed, and that checkpoint is the first that the next key signs; 3. the present
key is destroyed and the next one takes its place. At every cut there is a key that signs: `recover` finishes the change
or drops it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.audit.keys import NoteKey, destroy_key_file, load_key, make_key_file, overwrite_key_file
from appliance.core.clock import Moment
from appliance.core.durable import fsync_directory, write_durable
from appliance.core.errors import DecodeError, EdgesealError
from appliance.formats.audit_service_state import EpochChange, KeyState, changed, decode_state, encode_state
from appliance.formats.checkpoint import Checkpoint, encode_checkpoint
from appliance.formats.signed_note import Sign, VerifierKey, encode_vkey, sign_note

DAY_US = 86_400_000_000
_LOG, _EPOCH, _NEXT, _STATE = "log.key", "epoch.key", "epoch-next.key", "keys.json"


@dataclass(frozen=True)
class Handover:
    """What the entry `epoch-began` says. note: the tree before it, signed by the keys before it; empty in epoch 1."""

    epoch: int
    vkey: str
    note: str


class Keyring:
    """The keys of one origin."""

    def __init__(self, directory: Path, state: KeyState) -> None:
        """Raises EdgesealError when a key is not there."""
        self._directory = directory
        self._state = state
        self._log = load_key(directory / _LOG, state.origin)
        self._epoch: NoteKey | None = None
        if state.change is None:
            self._epoch = self._load(_EPOCH)

    @property
    def origin(self) -> str:
        """Of the log; also the name of its key."""
        return self._state.origin

    @property
    def epoch(self) -> int:
        """The present one."""
        return self._state.epoch

    @property
    def vkeys(self) -> tuple[str, str]:
        """Of the log, and of the present epoch."""
        return encode_vkey(self._log.verifier), encode_vkey(self._present.verifier)

    @property
    def verifiers(self) -> tuple[VerifierKey, VerifierKey]:
        """As `vkeys`."""
        return self._log.verifier, self._present.verifier

    def signers(self) -> list[tuple[VerifierKey, Sign]]:
        """Who signs every checkpoint."""
        return [(key.verifier, key.sign) for key in (self._log, self._present)]

    def is_due(self, now: Moment, length: Literal["boot", "day"]) -> bool:
        """Whether a new epoch has to begin. A day is one of the device being on; a boot always begins one."""
        if now.boot_id != self._state.boot_id:
            return True
        return length == "day" and now.monotonic_us - self._state.since_us >= DAY_US

    def begin(self, size: int, root: bytes, now: Moment) -> Handover:
        """Step 1. size, root: of the tree that is durable now. From here on the next key signs."""
        make_key_file(self._directory / _NEXT)
        following = self._load(_NEXT)
        vkey = encode_vkey(following.verifier)
        line = f"epoch {self.epoch + 1} {vkey}"
        text = encode_checkpoint(Checkpoint(self.origin, size, root, (line,)))
        note = sign_note(text, self.signers()).decode()
        change = EpochChange(index=size, vkey=vkey, boot_id=now.boot_id, since_us=now.monotonic_us)
        self._keep(changed(self._state, change=change))
        self._epoch = following
        return Handover(self.epoch + 1, vkey, note)

    def finish(self) -> None:
        """Step 3, once the entry is durable. It can be repeated after a cut."""
        change, following, present = self._state.change, self._directory / _NEXT, self._directory / _EPOCH
        if change is None:
            return
        if following.exists():
            if present.exists():
                overwrite_key_file(present)
            following.replace(present)
            fsync_directory(self._directory)
        self._epoch = self._load(_EPOCH)
        if encode_vkey(self._epoch.verifier) != change.vkey:
            raise EdgesealError("the key of the epoch is not the one that the log names")
        self._keep(
            KeyState(
                origin=self.origin, epoch=self.epoch + 1, boot_id=change.boot_id, since_us=change.since_us, change=None
            )
        )

    def recover(self, announced: Callable[[int], str | None]) -> None:
        """Finish or drop a change that was cut. announced: vkey of the durable `epoch-began` at an index, or None."""
        change = self._state.change
        if change is None:
            return
        if announced(change.index) == change.vkey:
            self.finish()
            return
        destroy_key_file(self._directory / _NEXT)  # no checkpoint that anybody saw was signed by it
        self._keep(changed(self._state, change=None))
        self._epoch = self._load(_EPOCH)

    @property
    def _present(self) -> NoteKey:
        if self._epoch is None:
            raise EdgesealError("a change of the epoch was cut and has not been looked at")
        return self._epoch

    def _load(self, name: str) -> NoteKey:
        return load_key(self._directory / name, f"{self._state.origin}/epoch")

    def _keep(self, state: KeyState) -> None:
        _write(self._directory, state)
        self._state = state


def open_keyring(directory: Path) -> Keyring | None:
    """The keys that are there; None when there never were any. Raises EdgesealError when they are damaged."""
    path = directory / _STATE
    if not path.exists():
        return None
    try:
        state = decode_state(path.read_bytes(), KeyState)
    except (OSError, DecodeError) as error:
        raise EdgesealError(f"the state of the log's keys is damaged: {error}") from error
    return Keyring(directory, state)


def make_keyring(directory: Path, prefix: str, now: Moment) -> Keyring:
    """New keys for a new log, epoch 1; its origin is `prefix`/8 hex digits of the key. What was there is destroyed."""
    (directory / _STATE).unlink(missing_ok=True)
    for name in (_LOG, _EPOCH, _NEXT):
        destroy_key_file(directory / name)
    make_key_file(directory / _LOG)
    make_key_file(directory / _EPOCH)
    digits = hashlib.sha256(load_key(directory / _LOG, prefix).verifier.key).hexdigest()[:8]
    origin = f"{prefix}/{digits}"
    state = KeyState(origin=origin, epoch=1, boot_id=now.boot_id, since_us=now.monotonic_us)
    _write(directory, state)
    return Keyring(directory, state)


def _write(directory: Path, state: KeyState) -> None:
    write_durable(directory / _STATE, encode_state(state), mode=0o600)
