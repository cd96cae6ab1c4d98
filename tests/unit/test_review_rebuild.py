"""A rebuild starts from the same inputs and reuses no step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.core.errors import InputError
from builder.host.paths import cache_directory
from builder.review.rebuild import check_inputs, fresh_step_cache
from tests.unit.test_review_manifest import manifest


def test_the_same_inputs_pass() -> None:
    check_inputs(manifest(), profile_bytes=b"profile", lock_bytes=b"lock")


@pytest.mark.parametrize(
    ("profile_bytes", "lock_bytes", "file"),
    [
        (b"other", b"lock", "profiles/virtual-x86_64.yaml"),
        (b"profile", b"other", "profiles/locks/virtual-x86_64.lock.json"),
    ],
)
def test_other_inputs_are_named(profile_bytes: bytes, lock_bytes: bytes, file: str) -> None:
    with pytest.raises(InputError) as caught:
        check_inputs(manifest(), profile_bytes=profile_bytes, lock_bytes=lock_bytes)
    assert str(caught.value).startswith(f"{file}: sha256 is ")
    assert caught.value.hint == "check out the commit that the build was made from"


@pytest.mark.parametrize("before", [None, "/somewhere"])
def test_the_step_cache_is_empty_and_the_setting_comes_back(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGESEAL_CACHE", raising=False)
    if before is not None:
        monkeypatch.setenv("EDGESEAL_CACHE", before)
    with pytest.raises(ZeroDivisionError), fresh_step_cache(tmp_path / "cache"):
        assert cache_directory() == tmp_path / "cache"
        _ = 1 / 0
    assert os.environ.get("EDGESEAL_CACHE") == before
