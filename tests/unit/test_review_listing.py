"""The tree listing: one spelling for every path."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from builder.review.listing import directory_listing, escape, listing_line, tree_digest

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (listing_line("/", mode=stat.S_IFDIR | 0o755, uid=0, gid=0), "/ directory 0755 0:0"),
        (
            listing_line("/bin", mode=stat.S_IFLNK | 0o755, uid=0, gid=0, target="usr/b n"),
            "/bin symlink 0777 0:0 usr/b\\x20n",
        ),
        (listing_line("/e", mode=stat.S_IFREG | 0o4644, uid=1, gid=2, sha256=EMPTY), f"/e file 4644 1:2 {EMPTY}"),
        (listing_line("/d", mode=stat.S_IFCHR | 0o600, uid=0, gid=0, device=(1, 3)), "/d character 0600 0:0 1:3"),
        (listing_line("/f", mode=stat.S_IFIFO | 0o600, uid=0, gid=0), "/f fifo 0600 0:0"),
        (
            listing_line("/x", mode=stat.S_IFDIR | 0o700, uid=0, gid=0, xattrs={"user.b": b"\1", "user.a": b""}),
            "/x directory 0700 0:0 user.a= user.b=01",
        ),
    ],
)
def test_lines(line: str, expected: str) -> None:
    assert line == expected


def test_a_file_without_its_hash_is_a_bug() -> None:
    with pytest.raises(ValueError, match="/x: a regular file needs its sha256"):
        listing_line("/x", mode=stat.S_IFREG | 0o644, uid=0, gid=0)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a b", "a\\x20b"), ("a\\b", "a\\x5cb"), ("ü", "\\xc3\\xbc"), ("\udcff", "\\xff"), ("\n", "\\x0a")],
)
def test_escape(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_the_digest_does_not_depend_on_the_order() -> None:
    assert tree_digest(["b", "a"]) == tree_digest(["a", "b"])
    assert tree_digest(["a b"]) != tree_digest(["a", "b"])


def test_a_directory_is_listed_as_it_will_be_in_an_image(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "a").chmod(0o640)
    assert directory_listing(tmp_path) == [
        "/ directory 0755 0:0",
        f"/a file 0640 0:0 {EMPTY}",
        "/b symlink 0777 0:0 a",
    ]
