"""What a killed process left is swept by the next one; what a living one holds is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from builder.host.scratch import scratch_directory, scratch_file

# Holds a scratch directory until its standard input ends.
_HOLDER = """
import sys
from pathlib import Path
from builder.host.scratch import scratch_directory
with scratch_directory(Path(sys.argv[1]), ".making-") as path:
    (path / "half").write_text("half")
    print(path, flush=True)
    sys.stdin.read()
"""


def holder(base: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(base)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_deleted_at_the_end(tmp_path: Path) -> None:
    with scratch_directory(tmp_path / "new", ".making-") as path:
        (path / "file").write_text("x")
        assert path.stat().st_mode & 0o777 == 0o755
    with scratch_file(tmp_path / "new", ".incoming-") as path:
        assert path.stat().st_mode & 0o777 == 0o644
    assert list((tmp_path / "new").iterdir()) == []


def test_it_is_deleted_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_directory(tmp_path, ".making-"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_it_may_be_renamed_away(tmp_path: Path) -> None:
    with scratch_directory(tmp_path, ".making-") as path:
        path.rename(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    process, left = holder(tmp_path)
    process.kill()
    process.communicate()
    assert (left / "half").exists()
    with scratch_file(tmp_path, ".making-"):
        assert not left.exists()


def test_what_a_living_process_holds_stays(tmp_path: Path) -> None:
    process, held = holder(tmp_path)
    with scratch_directory(tmp_path, ".making-") as mine:
        assert mine != held
        assert (held / "half").exists()
    assert (held / "half").exists()
    process.communicate("")
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_other_names_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    with scratch_directory(tmp_path, ".making-"):
        pass
    assert (tmp_path / "precious").is_dir()
