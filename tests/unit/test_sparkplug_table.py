"""The table of assertions in docs/reference/sparkplug.md: whole, without doubles, its tests and premises real."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from appliance.formats.sparkplug_metrics import METRICS
from appliance.uplink.sparkplug_content import birth_metrics
from builder.host.paths import source_root
from tests.support.sparkplug_clauses import CHECKS
from tests.support.sparkplug_driver import BODIES, Driver

TABLE = source_root() / "docs/reference/sparkplug.md"
CHECKERS = {
    "tests/unit/test_sparkplug_clauses.py::test_a_session_keeps_the_assertion",
    "tests/integration/uplink/test_sparkplug.py::test_birth_data_and_death_keep_every_assertion",
}
"""Both run the clause checker: over what the dialect says, and over packets of the real service."""


def _rows() -> list[tuple[str, str, str, str]]:
    """(id, what it demands, verdict, test) of each row."""
    found = []
    for line in TABLE.read_text().splitlines():
        if line.startswith("| `tck-id-"):
            cells = [cell.strip(" `") for cell in line.removeprefix("|").removesuffix("|").split("|")]
            assert len(cells) == 4, line
            found.append((cells[0], cells[1], cells[2], cells[3]))
    return found


def test_no_assertion_is_listed_twice() -> None:
    ids = [row[0] for row in _rows()]
    assert sorted(set(ids)) == sorted(ids)
    assert len(ids) == 299


def test_every_row_has_a_verdict_and_what_is_met_has_a_test() -> None:
    for clause, demand, verdict, test in _rows():
        assert demand, clause
        assert verdict == "met" or re.match(r"(not met|not applicable): .", verdict), clause
        assert bool(test) or verdict != "met", clause


def test_the_verdicts_are_counted_right() -> None:
    verdicts = [verdict.partition(":")[0] for _, _, verdict, _ in _rows()]
    met, not_applicable, not_met = map(verdicts.count, ("met", "not applicable", "not met"))
    assert f"{met} are met, {not_applicable} do not apply, {not_met} are not met" in TABLE.read_text()


def test_every_test_that_a_row_names_exists() -> None:
    known: dict[str, set[str]] = {}
    for clause, _, _, test in _rows():
        file, _, function = test.partition("::")
        if test and file not in known:
            tree = ast.parse((source_root() / file).read_text())
            known[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not test or function in known[file], f"{clause}: {test}"


def test_the_table_names_the_checker_for_what_it_checks() -> None:
    assert {clause for clause, _, _, test in _rows() if test in CHECKERS} >= set(CHECKS)


def test_the_table_of_metrics_is_the_one_that_is_spoken() -> None:
    told = re.findall(r"^\| (\d+) \| `([^`]+)` \| (\w+) \|", TABLE.read_text(), re.MULTILINE)
    assert told == [(str(metric.alias), metric.name, metric.datatype.name.capitalize()) for metric in METRICS]


# ---- premises of `not applicable`


def test_there_is_no_device_below_the_node(tmp_path: Path) -> None:
    node = Driver(tmp_path)
    node.connect()
    node.host_says(True)
    for kind, (stream, body) in BODIES.items():
        node.send(node.spooled(stream, kind, body))
    node.leave()
    spoken = {*node.dialect.subscriptions(), *(one.topic for one in node.published)}
    sparkplug = {tuple(topic.split("/")[1:3]) for topic in spoken if topic.startswith("spBv1.0/")}
    assert sparkplug == {
        ("STATE", "scada"), ("plant-4", "NBIRTH"), ("plant-4", "NCMD"), ("plant-4", "NDATA"), ("plant-4", "NDEATH")
    }  # fmt: skip
    assert {len(topic.split("/")) for topic in spoken if "/N" in topic} == {4}


def test_there_are_no_templates_data_sets_or_quality_codes() -> None:
    births = birth_metrics(0, {}, 1)
    assert {metric.datatype for metric in births} == {4, 11, 12}
    assert {type(metric.value) for metric in births} == {int, bool, type(None)}
