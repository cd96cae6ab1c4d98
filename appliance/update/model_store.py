"""Models on the data partition: current, previous, and one on its way. Spec: docs/specs/model-store.md.

After a power cut at any instruction current.json names versions that are whole. Whatever it does not name, and
pending.json does not, is litter of an interruption.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from appliance.core.durable import fsync_directory
from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.model_release import MAX_MODEL_RELEASE_BYTES, ModelRelease, decode_model_release
from appliance.formats.model_store import (
    CURRENT_FILE,
    MAX_MODEL_FILE_BYTES,
    PENDING_FILE,
    CurrentModel,
    PendingModel,
    StoredModel,
    decode_current,
    decode_pending,
    encode_current,
    encode_pending,
    manifest_file,
    onnx_file,
    part_file,
    without_previous,
)
from appliance.update.model_files import ModelFiles

RESERVE = 16 << 20
"""Bytes of the file system that are left to others, and to what the service itself has to remember."""
SMALL_FILES = 4 * MAX_MODEL_FILE_BYTES
"""Of one model: what says which version is current, and its next state while it is written."""


class ModelStore:
    """Every model of the device. base: the directory that the service owns. budget: bytes of all versions together.

    free: bytes that the file system has for this user. files: how the directory of one model is written.
    """

    def __init__(
        self,
        base: Path,
        *,
        budget: int,
        free: Callable[[Path], int] | None = None,
        files: Callable[[Path], ModelFiles] = ModelFiles,
    ) -> None:
        self._base = base
        self._budget = budget
        self._free = free or _free
        self._files = files

    def files(self, name: str) -> ModelFiles:
        """The directory of one model."""
        return self._files(self._base / name)

    # ---- what is there

    def current(self, name: str) -> CurrentModel | None:
        """None when nothing was ever stored. Raises DecodeError when the file is damaged."""
        data = self.files(name).read(CURRENT_FILE, at_most=MAX_MODEL_FILE_BYTES)
        return None if data is None else decode_current(data)

    def pending(self, name: str) -> PendingModel | None:
        """What is on its way. Raises DecodeError when the file is damaged."""
        data = self.files(name).read(PENDING_FILE, at_most=MAX_MODEL_FILE_BYTES)
        return None if data is None else decode_pending(data)

    def release(self, name: str, version: int, sha256: str) -> ModelRelease:
        """The manifest that was kept. Raises VerificationError when it is another one, or gone."""
        data = self.files(name).read(manifest_file(version), at_most=MAX_MODEL_RELEASE_BYTES)
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise VerificationError(f"the manifest of version {version} of model {name} is damaged, or gone")
        try:
            return decode_model_release(data)
        except DecodeError as error:
            raise VerificationError(str(error)) from error

    def room(self, name: str) -> int:
        """Bytes that a new version of `name` may take: its version before the current one would make room."""
        left = self._left()
        current, files = self.current(name), self.files(name)
        kept = [] if current is None else [manifest_file(current.current.version), onnx_file(current.current.version)]
        return max(0, left + sum(size for file, size in _versions(files).items() if file not in kept))

    # ---- a new version

    def begin(self, pending: PendingModel, manifest: bytes, *, size: int) -> None:
        """Journal a decision. size: bytes of manifest and model; what is in the way makes room.

        Another version that was on its way is given up.
        """
        files = self.files(pending.model)
        self.drop(pending.model)
        if size > self._left():
            self._forget_previous(pending.model)
        files.write(manifest_file(pending.version), manifest)
        files.write(PENDING_FILE, encode_pending(pending))

    def finish(self, pending: PendingModel) -> None:
        """Its part is whole, synced and verified: it becomes current, and what was current becomes previous.

        It stays pending until `drop`, so that the log can be told first.
        """
        files, before = self.files(pending.model), self.current(pending.model)
        files.publish(part_file(pending.version), onnx_file(pending.version))
        new = StoredModel(version=pending.version, release=pending.release, policy_sequence=pending.policy_sequence)
        previous = None if before is None else before.current
        files.write(CURRENT_FILE, encode_current(CurrentModel(model=pending.model, current=new, previous=previous)))

    def drop(self, name: str) -> None:
        """Nothing is on its way any more; whatever no file names is removed."""
        files = self.files(name)
        if PENDING_FILE in files.sizes():
            files.remove(PENDING_FILE)
        self.tidy(name)

    # ---- after an interruption

    def tidy(self, name: str) -> None:
        """Remove what neither current.json nor pending.json names. Raises DecodeError when one of them is damaged."""
        files, current, pending = self.files(name), self.current(name), self.pending(name)
        keep = {CURRENT_FILE, PENDING_FILE, f"{CURRENT_FILE}.broken", f"{PENDING_FILE}.broken"}
        for stored in () if current is None else (current.current, current.previous):
            if stored is not None:
                keep |= {manifest_file(stored.version), onnx_file(stored.version)}
        if pending is not None:
            keep |= {manifest_file(pending.version), part_file(pending.version)}
            if onnx_file(pending.version) in set(files.sizes()) - keep:  # the power went before it was current
                files.publish(onnx_file(pending.version), part_file(pending.version))
        for file in sorted(set(files.sizes()) - keep):
            files.remove(file)

    def examine(self, name: str, *, progress: Callable[[], None]) -> list[str]:
        """At start: what is there is held against its hashes. Sentences about what was not as it must be.

        A damaged file is put aside, a damaged version left for the one before it; then `tidy`.
        """
        said = [*self._examine_state(name), *self._examine_versions(name, progress)]
        self.tidy(name)
        return said

    def keep_only(self, names: Collection[str]) -> None:
        """Remove the models that are not in `names`."""
        try:
            for path in sorted(self._base.iterdir()) if self._base.is_dir() else ():
                if path.name not in names:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                    fsync_directory(self._base)
        except OSError as error:
            raise EdgesealError(f"cannot remove {error.filename}: {(error.strerror or str(error)).lower()}") from error

    def _examine_state(self, name: str) -> list[str]:
        said, files = [], self.files(name)
        for file, read in ((CURRENT_FILE, self.current), (PENDING_FILE, self.pending)):
            try:
                read(name)
            except DecodeError as error:
                said.append(f"model {name}: {error}")
                files.publish(file, f"{file}.broken")
        return said

    def _examine_versions(self, name: str, progress: Callable[[], None]) -> list[str]:
        found, said = self.current(name), []
        if found is None:
            return []
        whole = []
        for stored in (found.current, found.previous):
            if stored is None:
                continue
            try:
                self._verify(name, stored, progress)
                whole.append(stored)
            except VerificationError as error:
                said.append(str(error))
        if said and whole:
            self.files(name).write(CURRENT_FILE, encode_current(CurrentModel(model=name, current=whole[0])))
        elif said:
            self.files(name).publish(CURRENT_FILE, f"{CURRENT_FILE}.broken")
        return said

    def _verify(self, name: str, stored: StoredModel, progress: Callable[[], None]) -> None:
        release = self.release(name, stored.version, stored.release)
        if self.files(name).digest(onnx_file(stored.version), progress=progress) != release.onnx.sha256:
            raise VerificationError(f"version {stored.version} of model {name} is damaged, or gone")

    def _forget_previous(self, name: str) -> None:
        current = self.current(name)
        if current is not None and current.previous is not None:
            self.files(name).write(CURRENT_FILE, encode_current(without_previous(current)))
            self.tidy(name)

    def _left(self) -> int:
        """Bytes that may be written with everything kept."""
        try:
            models = [path.name for path in sorted(self._base.iterdir())] if self._base.is_dir() else []
        except OSError as error:
            raise EdgesealError(f"cannot read {self._base}: {(error.strerror or str(error)).lower()}") from error
        used = sum(sum(_versions(self.files(name)).values()) for name in models)
        return min(self._budget - used, self._free(self._base) - RESERVE) - SMALL_FILES


def _versions(files: ModelFiles) -> dict[str, int]:
    return {name: size for name, size in files.sizes().items() if not name.startswith((CURRENT_FILE, PENDING_FILE))}


def _free(base: Path) -> int:
    there = next(path for path in (base, *base.parents) if path.is_dir())
    try:
        status = os.statvfs(there)
    except OSError as error:
        raise EdgesealError(f"cannot read {there}: {(error.strerror or str(error)).lower()}") from error
    return status.f_bavail * status.f_frsize
