"""A step's result is kept by what went in, and is there whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from builder.archive import digest, stepcache
from builder.archive.stepcache import cached_directory, cached_file, code_digest, key_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESEAL_CACHE", str(tmp_path))
    return tmp_path


def test_a_result_is_made_once() -> None:
    made = []

    def make(target: Path) -> None:
        made.append(target)
        (target / "file").write_text("result")

    assert cached_directory("kind", "key", make) == cached_directory("kind", "key", make)
    assert len(made) == 1


def test_other_keys_and_kinds_are_other_results() -> None:
    results = [
        cached_file(kind, key, lambda target: target.write_text(f"{kind}/{key}") and None)  # noqa: B023
        for kind in ("one", "two")
        for key in ("a", "b")
    ]
    assert [path.read_text() for path in results] == ["one/a", "one/b", "two/a", "two/b"]


def test_a_step_that_fails_leaves_nothing(cache: Path) -> None:
    def fail(target: Path) -> None:
        (target / "half").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached_directory("kind", "key", fail)
    assert list((cache / "steps" / "kind").iterdir()) == []
    assert cached_directory("kind", "key", lambda target: None).is_dir()


def test_two_builds_make_the_same_step_at_once() -> None:
    """Both make it, one result stays, and both get it."""
    meeting = threading.Barrier(2)
    found: list[Path] = []

    def make(target: Path) -> None:
        meeting.wait(30)
        (target / "file").write_text("result")

    threads = [threading.Thread(target=lambda: found.append(cached_directory("kind", "key", make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert [path.name for path in found[0].parent.iterdir()] == ["key"]
    assert (found[0] / "file").read_text() == "result"


def test_the_mode_does_not_follow_the_umask(cache: Path) -> None:
    import os

    before = os.umask(0o077)
    try:
        made = cached_directory("kind", "key", lambda target: None)
    finally:
        os.umask(before)
    assert made.stat().st_mode & 0o777 == 0o755


def test_keys() -> None:
    assert key_of("a", "b") == key_of(b"a", b"b")
    assert len({key_of("ab"), key_of("a", "b"), key_of("", "ab"), key_of("ab", ""), key_of()}) == 5


def test_code_is_part_of_a_key() -> None:
    assert code_digest([digest, stepcache]) == code_digest([stepcache, digest])
    assert code_digest([digest]) != code_digest([stepcache])


def test_old_results_of_a_busy_kind_go_and_recent_ones_stay(cache: Path) -> None:
    for number in range(15):
        made = cached_directory("base", f"old{number:02}", lambda _target: None)
        os.utime(made, (number, number))
    kept = cached_directory("base", "new", lambda _target: None)
    names = {path.name for path in kept.parent.iterdir()}
    assert names == {"new", *(f"old{number:02}" for number in range(4, 15))}
    for number in range(15):
        cached_directory("deb", f"old{number:02}", lambda _target: None)
    assert len(list((kept.parent.parent / "deb").iterdir())) == 15
