"""edgeseal profile: check one, list them, print the schema for editors."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from builder.cli.command import Command, problem_data
from builder.profile.load import load_profile, overdue_reviews, profile_names, profile_path, shown_path
from builder.profile.reference import profile_schema


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="path of a profile, or the name of one in profiles/")
    parser.add_argument("--release", action="store_true", help="an approval of a conduit that has ended is an error")


def _check(arguments: argparse.Namespace) -> dict[str, Any]:
    profile = load_profile(arguments.profile)
    today = datetime.now(UTC).date()
    overdue = overdue_reviews(arguments.profile, today=today, release=arguments.release)
    return {
        "profile": profile.name,
        "file": shown_path(profile_path(arguments.profile)),
        "problems": [],
        "overdue": [problem_data(conduit) for conduit in overdue],
    }


def _list(_arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return [
        {
            "name": profile.name,
            "architecture": profile.architecture,
            "hardware_class": profile.hardware.hardware_class,
            "version": profile.version,
            "description": profile.hardware.description,
        }
        for profile in map(load_profile, profile_names())
    ]


def _render_list(rows: list[dict[str, Any]]) -> str:
    width = max((len(row["name"]) for row in rows), default=0)
    return "\n".join(f"{row['name']:{width}}  {row['architecture']:6}  {row['description']}" for row in rows)


def _no_arguments(_parser: argparse.ArgumentParser) -> None:
    """The command takes none."""


COMMANDS = (
    Command(
        path=("profile", "check"),
        help="tell everything that is wrong with a profile",
        arguments=_check_arguments,
        execute=_check,
        render=lambda result: f"{result['file']}: nothing wrong",
    ),
    Command(
        path=("profile", "list"),
        help="list the profiles of this checkout",
        arguments=_no_arguments,
        execute=_list,
        render=_render_list,
    ),
    Command(
        path=("profile", "schema"),
        help="print the JSON schema of a profile, for editors",
        arguments=_no_arguments,
        execute=lambda _arguments: profile_schema(),
        render=lambda schema: json.dumps(schema, indent=2, ensure_ascii=False),
    ),
)
