"""The catalogue: complete, raised by somebody, and what the reference page says."""

from __future__ import annotations

import ast
import string
from pathlib import Path
from typing import get_args

import pytest

from appliance.formats.audit_catalogue import CATALOGUE, SECTIONS
from appliance.formats.audit_event import MAX_EVENT_BYTES, AuditEvent, encode_event
from appliance.formats.audit_kind import REQUIREMENTS, Category
from builder.host.paths import source_root

PAGE = "docs/reference/audit-events.md"
LONGEST: dict[str, str | int | bool] = {"text": "x" * 64, "count": 2**53 - 1, "flag": True}


def raised() -> dict[str, set[str]]:
    """kind -> the parts of the appliance in whose code it stands as a word of its own."""
    found: dict[str, set[str]] = {}
    root = source_root() / "appliance"
    for path in sorted(root.rglob("*.py")):
        if path.parent.name == "formats":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in CATALOGUE:
                found.setdefault(node.value, set()).add(f"appliance.{path.relative_to(root).parts[0]}")
    return found


RAISED = raised()


@pytest.mark.parametrize("kind", sorted(CATALOGUE))
def test_every_kind_is_raised_by_whom_it_belongs_to(kind: str) -> None:
    parts = RAISED.get(kind, set())
    assert parts, f"nobody raises {kind}"
    if CATALOGUE[kind].writer_only:
        assert parts == {"appliance.audit"}


@pytest.mark.parametrize("kind", sorted(CATALOGUE))
def test_every_kind_is_whole(kind: str) -> None:
    one = CATALOGUE[kind]
    assert one.requirement in REQUIREMENTS
    assert one.sentence.endswith((".", "}"))
    assert {name for _, name, _, _ in string.Formatter().parse(one.sentence) if name} <= set(one.fields)
    values = {name: LONGEST[field] for name, field in one.fields.items()}
    assert len(encode_event(AuditEvent(kind=kind, result="success", fields=values))) <= MAX_EVENT_BYTES


def test_all_categories_of_cr_2_8_are_there() -> None:
    assert {one.category for one in CATALOGUE.values()} == set(get_args(Category))
    assert sum(map(len, SECTIONS.values())) == len(CATALOGUE)


def page() -> str:
    """The reference page."""
    lines = [
        "# Audit events",
        "",
        "Generated from `appliance/formats/audit_catalogue.py` (`make golden`). What the audit log of a device can",
        "say: each kind with its category by IEC 62443-4-2 CR 2.8, the requirement that it serves besides, its fields,",
        "who says it, and its sentence. A kind with a bolt (⚡) is a security event: it is committed at once, and who",
        "says it waits until it is durable. All others are committed together, within 50 ms.",
        "",
        "Every entry also has its index, the boot (a count and the kernel's id), monotonic and wall clock with the",
        "time's quality, and the sender's user, process and unit as the kernel tells the log. Formats:",
        "[audit-event](../specs/audit-event.md), [audit-log](../specs/audit-log.md).",
        "",
        "There is no kind for actions on outputs: the product has no output but its messages to the broker.",
    ]
    for title, section in SECTIONS.items():
        lines += ["", f"## {title}", "", "| kind | category | requirement | fields | said by | sentence |"]
        lines += ["|---|---|---|---|---|---|", *(_row(name) for name in section)]
    return "\n".join(lines) + "\n"


def _row(kind: str) -> str:
    one = CATALOGUE[kind]
    fields = _fields(kind)
    who = ", ".join(sorted(part.removeprefix("appliance.") for part in RAISED.get(kind, ())))
    return (
        f"| `{kind}`{' ⚡' if one.security else ''} | {one.category} | {one.requirement} | {fields} | {who} |"
        f" {one.sentence} |"
    )


def _fields(kind: str) -> str:
    fields = CATALOGUE[kind].fields
    if {f"pcr_{number}" for number in range(16)} <= set(fields):
        fields = {name: field for name, field in fields.items() if "pcr_" not in name} | {"pcr_0` to `pcr_15": "text"}
    return ", ".join(f"`{name}` ({field})" for name, field in fields.items()) or "–"


def test_the_reference_page(request: pytest.FixtureRequest) -> None:
    path = source_root() / PAGE
    if request.config.getoption("--rewrite-golden"):
        path.write_text(page())
    assert path.read_text() == page()


def test_a_kind_that_nobody_raises_would_be_seen(tmp_path: Path) -> None:
    assert "no-such-kind" not in RAISED
    assert "boot-started" in RAISED
