"""One good build for all tests of the review evidence."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.host.sandbox import Sandbox
from builder.host.toolstree import tools_tree
from builder.signing.keyinit import init_keys
from builder.signing.keyset import KeySet, load_keys
from tests.support.review_build import Ingredients, make_build

NOW = datetime(2025, 11, 20, tzinfo=UTC)


@pytest.fixture(scope="session")
def tools() -> Sandbox:
    return tools_tree()


@pytest.fixture(scope="session")
def keys_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys") / "dev"
    init_keys(directory, development=True, now=NOW)
    return directory


@pytest.fixture(scope="session")
def keys(keys_directory: Path) -> KeySet:
    return load_keys(keys_directory)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory, keys: KeySet, tools: Sandbox) -> Path:
    """Never changed by a test."""
    return make_build(tmp_path_factory.mktemp("good") / "build", tools, Ingredients(keys))


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    """A copy of the good build, to be broken."""
    shutil.copytree(good, tmp_path / "build")
    return tmp_path / "build"
