"""Package indexes that must not be believed, held against the real apt: expired ones, and unsigned ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from builder.lock.apt import PrivateApt


def repository(directory: Path, *, valid_until: str) -> Path:
    """A repository without packages."""
    release = directory / "dists" / "trixie"
    index = release / "main" / "binary-amd64" / "Packages"
    index.parent.mkdir(parents=True)
    index.write_text("")
    (release / "Release").write_text(
        "Origin: Debian\nLabel: Debian\nSuite: trixie\nCodename: trixie\nArchitectures: amd64\nComponents: main\n"
        f"Date: Sat, 01 Jan 2022 00:00:00 UTC\nValid-Until: {valid_until}\n"
        f"SHA256:\n {hashlib.sha256(b'').hexdigest()} 0 main/binary-amd64/Packages\n"
    )
    return directory


def private_apt(directory: Path, source: str) -> PrivateApt:
    apt = PrivateApt(directory, suite="trixie", architecture="x86_64", kept_out=())
    (directory / "etc" / "sources.list").write_text(source)
    return apt


def test_an_expired_index_is_refused(tmp_path: Path) -> None:
    archive = repository(tmp_path / "archive", valid_until="Sat, 08 Jan 2022 00:00:00 UTC")
    apt = private_apt(tmp_path / "apt", f"deb [trusted=yes] file://{archive} trixie main\n")
    with pytest.raises(EdgesealError) as refusal:
        apt.update()
    message = str(refusal.value)
    assert message.startswith("cannot fetch the package indexes of trixie: apt-get exited 100: E: Release file for ")
    assert "is expired" in message
    assert refusal.value.hint == (
        "is the mirror reachable, and does `apt-get update` work on this machine? an expired index means a mirror that "
        "stopped being updated"
    )


def test_an_index_that_is_still_valid_is_taken(tmp_path: Path) -> None:
    archive = repository(tmp_path / "archive", valid_until="Fri, 31 Dec 2999 00:00:00 UTC")
    apt = private_apt(tmp_path / "apt", f"deb [trusted=yes] file://{archive} trixie main\n")
    apt.update()
    assert apt.epoch() == 1_640_995_200


def test_an_unsigned_index_is_refused(tmp_path: Path) -> None:
    archive = repository(tmp_path / "archive", valid_until="Fri, 31 Dec 2999 00:00:00 UTC")
    apt = private_apt(tmp_path / "apt", f"deb file://{archive} trixie main\n")
    with pytest.raises(EdgesealError) as refusal:
        apt.update()
    assert str(refusal.value) == (
        "cannot fetch the package indexes of trixie: apt-get exited 100: "
        f"E: The repository 'file:{archive} trixie Release' is not signed."
    )
