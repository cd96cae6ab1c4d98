"""What a command of `edgeseal` is. Every module in builder/cli/ with a COMMANDS tuple is found by main.py.

A command computes a value and returns it; it never prints. main.py prints it as JSON (`--json`) or as `render` says.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from appliance.core.errors import EdgesealError, Place
from builder.profile.problem import Problem


@dataclass(frozen=True)
class Command:
    """One verb.

    path: ("keys", "init") for `edgeseal keys init`.
    execute: takes the parsed arguments, returns data made of dict, list, str, int, bool, None (what --json prints).
        Raises EdgesealError. `overdue` of a dict, a list of `problem_data`, is told on stderr as warnings, too.
    render: the same data as text for a person, without a final newline.
    lines: with --json it writes reports while it runs, one in a line; its result is the last of them.
    """

    path: tuple[str, ...]
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace], Any]
    render: Callable[[Any], str]
    exit_code: Callable[[Any], int] = lambda _result: 0
    lines: bool = False


def problem_data(problem: EdgesealError | Problem) -> dict[str, Any]:
    """An error, a problem or a warning as --json prints it."""
    place: Place | None = problem.place
    return {
        "message": problem.message,
        "file": None if place is None else place.file,
        "line": None if place is None else place.line,
        "hint": problem.hint,
    }
