"""What the checks look at: the artefacts of one build, opened when first needed, and the public keys to trust."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509

from appliance.core.errors import DecodeError, InputError, Place, VerificationError
from builder.archive.digest import file_sha256
from builder.host.sandbox import Sandbox
from builder.review.gpt import Partition, read_partitions
from builder.review.manifest import MANIFEST_NAME, PROVENANCE_NAME, SBOM_NAME, Manifest, decode_manifest
from builder.review.opened import OpenedRoot, open_esp, open_root
from builder.review.provenance import PAYLOAD_TYPE, Statement, decode_statement
from builder.review.verity import VerityTree, compute_tree
from builder.signing.dsse import verify_envelope
from builder.signing.keyset import PublicKeys
from builder.signing.pe import pe_sections
from builder.signing.roles import Role


class Evidence:
    """directory: of the build. Every property raises EdgesealError when its artefact is missing or malformed."""

    def __init__(self, directory: Path, keys: PublicKeys, tools: Sandbox, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self.keys = keys
        self.tools = tools
        self._stack = stack

    def path(self, name: str) -> Path:
        """The path of an artefact. Raises InputError when it is not there."""
        path = self.directory / name
        if not path.is_file():
            raise InputError(f"{name} is missing", place=Place(str(self.directory)))
        return path

    def certificate(self, role: Role) -> list[x509.Certificate]:
        """What may have signed for a role."""
        return [self.keys.certificate(role)]

    @cached_property
    def manifest_bytes(self) -> bytes:
        """The manifest as it stands."""
        return self.path(MANIFEST_NAME).read_bytes()

    @cached_property
    def manifest(self) -> Manifest:
        """Decoded; whether to believe it is the provenance's affair."""
        return decode_manifest(self.manifest_bytes)

    @cached_property
    def partitions(self) -> tuple[Partition, ...]:
        """Of disk.raw."""
        return read_partitions(self.path("disk.raw"))

    def partition(self, label: str) -> Partition:
        """The only one with that label."""
        found = [item for item in self.partitions if item.label == label]
        if len(found) != 1:
            raise VerificationError(f"disk.raw has {len(found)} partitions labelled {label}, expected one")
        return found[0]

    @cached_property
    def uki(self) -> bytes:
        """The unified kernel image."""
        return self.path("uki.efi").read_bytes()

    @cached_property
    def uki_sections(self) -> dict[str, bytes]:
        """Its sections, as they are in memory."""
        return pe_sections(self.uki)

    @cached_property
    def command_line(self) -> str:
        """What the UKI tells the kernel."""
        if ".cmdline" not in self.uki_sections:
            raise VerificationError("uki.efi has no command line: it would take one from the boot loader")
        try:
            return self.uki_sections[".cmdline"].rstrip(b"\0\n").decode("ascii")
        except UnicodeDecodeError as error:
            raise DecodeError("the command line of uki.efi is not ASCII") from error

    @cached_property
    def tree(self) -> VerityTree:
        """The hash tree, computed from root.erofs."""
        verity = self.manifest.verity
        return compute_tree(self.path("root.erofs"), salt=bytes.fromhex(verity.salt), uuid=verity.uuid)

    @cached_property
    def root(self) -> OpenedRoot:
        """The contents of root.erofs."""
        return self._stack.enter_context(open_root(self.path("root.erofs"), self.tools))

    @cached_property
    def esp(self) -> dict[str, Path]:
        """The files of the EFI system partition."""
        offset = self.partition("esp").offset
        return self._stack.enter_context(open_esp(self.path("disk.raw"), offset, self.tools))

    @cached_property
    def statement(self) -> Statement:
        """The provenance statement, its signature verified."""
        envelope = self.path(PROVENANCE_NAME).read_bytes()
        return decode_statement(verify_envelope(envelope, PAYLOAD_TYPE, self.certificate(Role.PROVENANCE)))

    @cached_property
    def sbom(self) -> dict[str, Any]:
        """The bill of materials, as JSON."""
        try:
            value = json.loads(self.path(SBOM_NAME).read_bytes())
        except ValueError as error:
            raise DecodeError(f"not JSON: {error}", place=Place(SBOM_NAME)) from error
        if not isinstance(value, dict):
            raise DecodeError("not an object", place=Place(SBOM_NAME))
        return value

    def sha256(self, path: Path) -> str:
        """Of any file."""
        return file_sha256(path)


@contextlib.contextmanager
def gather(directory: Path, keys: PublicKeys, tools: Sandbox) -> Iterator[Evidence]:
    """The evidence in `directory`; what had to be extracted is deleted at the end of the block."""
    if not directory.is_dir():
        raise InputError("no such directory", place=Place(str(directory)), hint="give the --out directory of a build")
    with contextlib.ExitStack() as stack:
        yield Evidence(directory, keys, tools, stack)
