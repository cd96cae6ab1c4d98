"""Our reader of erofs metadata against an image that mkfs.erofs made, and against what fsck.erofs extracts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from builder.host.sandbox import Sandbox
from builder.review.erofs import ErofsImage
from builder.review.listing import directory_listing, tree_digest
from builder.review.opened import open_root, read_one_file

pytestmark = pytest.mark.xdist_group("review")  # the good build is made once

EPOCH = 1_763_596_800


def source(base: Path) -> Path:
    tree = base / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "many").mkdir()
    for number in range(700):
        (tree / f"many/file-{number:04}").write_bytes(b"z" * number)
    (tree / "usr/bin/tool").write_bytes(os.urandom(100_000) + b"a" * 500_000)
    (tree / "usr/bin/tool").chmod(0o4755)
    (tree / "usr/ü name").write_bytes(b"x")
    (tree / "bin").symlink_to("usr/bin")
    (tree / "again").hardlink_to(tree / "usr/ü name")
    os.mkfifo(tree / "pipe", 0o600)
    for path in [tree, *(path for path in tree.rglob("*") if path.is_dir())]:
        path.chmod(0o755)
    return tree


@pytest.fixture(params=["-zzstd,level=3", "-zlz4hc,12", "", "-Eall-fragments,fragdedupe=inode"])
def image(request: pytest.FixtureRequest, tmp_path: Path, tools: Sandbox) -> Path:
    tree = source(tmp_path)
    words = [word for word in (request.param,) if word]
    tools.run(
        ["mkfs.erofs", *words, "--all-root", f"-T{EPOCH}", "--quiet", tmp_path / "i.erofs", tree],
        reason="make an image",
        writable=[tmp_path],
        environment={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )
    return tmp_path / "i.erofs"


def test_every_path_mode_and_byte(image: Path, tools: Sandbox) -> None:
    with open_root(image, tools) as root:
        assert sorted(root.listing()) == directory_listing(image.parent / "tree")
        assert root.digest() == tree_digest(directory_listing(image.parent / "tree"))
        assert {node.mtime for node in root.nodes} == {EPOCH}
        nids = [root.by_path[path].nid for path in ("/again", "/usr/ü name")]
        assert nids[0] == nids[1]
        assert stat.S_IMODE(root.by_path["/usr/bin/tool"].mode) == 0o4755
        assert root.read("/usr/bin/tool") == (image.parent / "tree/usr/bin/tool").read_bytes()


def test_one_file_alone(image: Path, tools: Sandbox) -> None:
    assert read_one_file(image, "/usr/ü name", tools) == b"x"


def test_attributes_and_owners(tmp_path: Path, tools: Sandbox) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a", "b", "c"):
        (tree / name).write_bytes(b"x")
        os.setxattr(tree / name, "user.shared", b"v" * 40)
    os.setxattr(tree / "a", "user.own", b"\0\1")
    words = ["-x1", "--force-uid=123456", "--force-gid=7", "--quiet", tmp_path / "i.erofs", tree]
    tools.run(["mkfs.erofs", *words], reason="make an image", writable=[tmp_path])
    nodes = {node.path: node for node in ErofsImage(tmp_path / "i.erofs").walk()}
    assert dict(nodes["/a"].xattrs) == {"user.shared": b"v" * 40, "user.own": b"\0\1"}
    assert dict(nodes["/c"].xattrs) == {"user.shared": b"v" * 40}
    assert (nodes["/b"].uid, nodes["/b"].gid) == (123456, 7)
