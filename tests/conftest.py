"""What all tests share: golden files, no silent skips, no network beyond loopback."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.effort import FULL, QUICK

for _name, _examples in (("full", FULL), ("quick", QUICK)):
    hypothesis.settings.register_profile(_name, max_examples=_examples, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("full")  # --hypothesis-profile comes later and wins

Golden = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("edgeseal")
    group.addoption("--rewrite-golden", action="store_true", help="write golden files instead of comparing")
    group.addoption(
        "--no-skips", action="store_true", help="a skipped test is a failed one: nothing may be missing here"
    )


LONG_FIRST = ("vm-update", "vm-cuts", "vm-fresh", "vm-thawed", "build")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups that take longest begin first, each in one worker; the small tests fill what is left."""

    def rank(item: pytest.Item) -> int:
        marker = item.get_closest_marker("xdist_group")
        name = marker.args[0] if marker is not None and marker.args else ""
        return LONG_FIRST.index(name) if name in LONG_FIRST else len(LONG_FIRST)

    items.sort(key=rank)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Long bytes, such as what a new key signed, are no name: all workers must find the same tests."""
    return "bytes" if isinstance(val, bytes) and len(val) > 40 else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """A group that is not kept together is found here, and not by a test that misses what another one left."""
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") is not None and "@" not in item.nodeid.rpartition("]")[2]:
                raise pytest.UsageError(f"pytest-xdist does not see the group of {item.nodeid}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but --no-skips: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and collector.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but --no-skips: {_reason(report.longrepr)}"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What a test has counted is told, passed or failed (record_property("counts", text))."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == "counts":
                    terminalreporter.write_line(str(text))


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Hold `text` against a golden file, or write the file under --rewrite-golden (`make golden`)."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--rewrite-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing: run `make golden` and read the diff"
        assert text == path.read_text(), f"{path.name} is out of date: run `make golden` and read the diff"

    return compare


@pytest.fixture(scope="session", autouse=True)
def _only_loopback() -> Iterator[None]:
    """No test talks to another machine from its own process."""
    original = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(str(address[0])):
            raise AssertionError(f"a test tried to reach {address[0]}")
        original(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
