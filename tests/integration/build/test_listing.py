"""What is in the root and in the initrd, one line per path: the diff of a golden file is the review."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import zstandard

from builder.host.paths import source_root
from builder.review.erofs import ErofsImage
from builder.review.listing import escape, type_name
from builder.signing.pe import pe_sections
from tests.conftest import Golden
from tests.integration.build.conftest import GROUP
from tests.support.cpio import read_newc

pytestmark = pytest.mark.xdist_group(GROUP)

GOLDEN = source_root() / "tests" / "golden"


def line(path: str, mode: int, target: str | None) -> str:
    """A path, its type, its permissions and where it points. No hash: only the set of files is the subject."""
    permissions = "    " if stat.S_ISLNK(mode) else f"{stat.S_IMODE(mode):04o}"
    arrow = f" -> {escape(target)}" if target is not None else ""
    return f"{type_name(mode):9} {permissions} {escape(path)}{arrow}\n"


def compiled_from(path: str) -> str:
    """The source of a bytecode file, or of what would be one."""
    folder, _, name = path.rpartition("/")
    return f"{folder.removesuffix('/__pycache__')}/{name.split('.')[0]}.py" if name.endswith(".pyc") else ""


def without_version(text: str) -> str:
    """A new kernel package is no new set of files."""
    return re.sub(r"/lib/modules/[0-9][^/\s]*", "/lib/modules/VERSION", text)


def test_the_files_of_the_root(virtual: Path, golden: Golden) -> None:
    nodes = {node.path: node for node in ErofsImage(virtual / "root.erofs").walk()}
    lines = [
        line(node.path, node.mode, node.target)
        for path, node in sorted(nodes.items())
        if compiled_from(path) not in nodes
    ]
    golden(GOLDEN / "virtual-x86_64.root.txt", without_version("".join(lines)))


def test_every_python_file_is_compiled_and_nothing_else_is(virtual: Path) -> None:
    """The listing leaves bytecode out, because this says all about it."""
    paths = {node.path for node in ErofsImage(virtual / "root.erofs").walk()}
    compiled = {path for path in paths if path.endswith(".pyc")}
    assert {compiled_from(path) for path in compiled} == {path for path in paths if path.endswith(".py")}
    assert {path for path in paths if "/__pycache__/" in path} == compiled


def test_the_files_of_the_initrd(virtual: Path, golden: Golden) -> None:
    archive = pe_sections((virtual / "uki.efi").read_bytes())[".initrd"]
    lines = []
    for member in read_newc(zstandard.ZstdDecompressor().decompressobj().decompress(archive)):
        mode = member.fields["mode"]
        lines.append(line(f"/{member.path}", mode, member.data.decode() if stat.S_ISLNK(mode) else None))
    assert lines
    golden(GOLDEN / "virtual-x86_64.initrd.txt", without_version("".join(lines)))
