"""What one line of the audit catalogue says. Spec: docs/specs/audit-event.md (v2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# IEC 62443-4-2 CR 2.8 names these categories.
Category = Literal[
    "access-control", "request-error", "control-system", "backup-restore", "configuration-change", "audit-log"
]
FieldType = Literal["text", "count", "flag"]

REQUIREMENTS = frozenset(
    {
        *(
            "CR 1.2",
            "CR 1.5",
            "CR 1.8",
            "CR 1.9",
            "CR 1.11",
            "CR 2.1",
            "CR 2.3",
            "EDR 2.4",
            "CR 2.8",
            "CR 2.9",
            "CR 2.10",
        ),
        *(
            "CR 2.11",
            "CR 2.12",
            "EDR 2.13",
            "CR 3.1",
            "EDR 3.2",
            "CR 3.3",
            "CR 3.4",
            "CR 3.5",
            "CR 3.9",
            "EDR 3.10",
            "EDR 3.11",
        ),
        *("EDR 3.14", "CR 4.3", "CR 5.1", "NDR 5.2", "CR 6.1", "CR 6.2", "CR 7.1", "CR 7.2", "CR 7.3", "CR 7.4"),
        "CR 7.6",
    }
)
"""Requirements of IEC 62443-4-2 that an event can serve; every event serves CR 2.8 as well, by its category."""

_SUFFIXES: dict[str, FieldType] = {"#": "count", "?": "flag"}


@dataclass(frozen=True)
class EventKind:
    """One line of the catalogue.

    sentence: for people; {name} stands for a field. requirement: of REQUIREMENTS, the one that the event serves most.
    security: committed at once; others within the writer's group. writer_only: the log's own.
    """

    category: Category
    requirement: str
    sentence: str
    fields: dict[str, FieldType]
    security: bool = False
    writer_only: bool = False


def kind(
    category: Category,
    requirement: str,
    sentence: str,
    fields: str = "",
    *,
    security: bool = False,
    writer_only: bool = False,
) -> EventKind:
    """fields: names with white space between; `name#` is a count, `name?` a flag, `name` a text."""
    named: dict[str, FieldType] = {word.rstrip("#?"): _SUFFIXES.get(word[-1], "text") for word in fields.split()}
    return EventKind(category, requirement, sentence, named, security, writer_only)
