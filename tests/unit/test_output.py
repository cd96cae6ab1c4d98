"""A build's directory may be named as a person does, from where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.host.output import output_directory


def test_a_relative_directory_is_handed_on_as_an_absolute_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with output_directory(Path("out/build")) as directory:
        assert directory.is_absolute()
        (directory / "manifest.json").write_text("{}")
    assert (tmp_path / "out/build/manifest.json").is_file()
