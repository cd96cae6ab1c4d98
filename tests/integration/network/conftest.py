"""The option of the tests with packets: all mutants, or a sample."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-mutants", action="store_true", help="send packets at every mutant, not at a sample")
