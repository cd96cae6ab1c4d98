"""From words to a command: which commands there are, which one is meant, and what its arguments are.

Each command has a parser of its own, so that `edgeseal lock PROFILE` and `edgeseal lock diff` can both be.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import builder.cli
from appliance.core.errors import InputError
from builder.cli.command import Command

_NO_COMMANDS = ("command", "main", "parse")
_PROMISE = "One hardware profile in, a signed and reproducible OS image out."
_EVERY = "Every command has --help and --json. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted."


def discover_commands() -> tuple[Command, ...]:
    """The COMMANDS of every module in builder/cli/, sorted by path."""
    found = [command for name in _module_names() for command in _commands_of(name)]
    return tuple(sorted(found, key=lambda command: command.path))


def commands_for(words: Sequence[str]) -> tuple[Command, ...]:
    """The commands that `words` can mean: those of the module named like the first word, else all.

    A verb stands in the module of its name, so that one command does not wait for the libraries of all others.
    """
    if words and words[0] in _module_names():
        found = sorted(_commands_of(words[0]), key=lambda command: command.path)
        if all(command.path[0] == words[0] for command in found):
            return tuple(found)
    return discover_commands()


def _module_names() -> list[str]:
    names = sorted(module.name for module in pkgutil.iter_modules(builder.cli.__path__))
    return [name for name in names if name not in _NO_COMMANDS]


def _commands_of(name: str) -> tuple[Command, ...]:
    return tuple(getattr(importlib.import_module(f"builder.cli.{name}"), "COMMANDS", ()))


def choose(words: Sequence[str], commands: Iterable[Command]) -> tuple[Command, list[str]]:
    """The command with the longest path that `words` begin with, and the words behind it.

    Raises InputError, with the nearest command, when there is none.
    """
    by_path = {command.path: command for command in commands}
    for length in range(len(words), 0, -1):
        if command := by_path.get(tuple(words[:length])):
            return command, list(words[length:])
    typed: list[str] = []
    for word in words:
        known = _next_words(tuple(typed), by_path)
        if word.startswith("-") or not known:
            break
        if word not in known:
            raise _unknown_command((*typed, word), known)
        typed.append(word)
    called = " ".join(("edgeseal", *typed))
    known = _next_words(tuple(typed), by_path)
    raise InputError(f"{called}: no command given", hint=f"one of: {', '.join(known)}; see `{called} --help`")


def parser_of(command: Command, siblings: Iterable[Command] = ()) -> argparse.ArgumentParser:
    """siblings: commands whose path goes on where this one's ends; its help names them."""
    longer = [f"edgeseal {' '.join(other.path)}: {other.help}" for other in siblings if _goes_on(command, other)]
    parser = _Parser(
        prog=f"edgeseal {' '.join(command.path)}",
        description=command.help,
        epilog=f"See also {'; '.join(longer)}." if longer else None,
    )
    command.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    return parser


def asked_overview(words: Sequence[str], commands: Sequence[Command]) -> str | None:
    """The overview, when `words` are --help behind nothing or behind a group."""
    below = tuple(words[:-1])
    paths = [command.path for command in commands]
    if words[-1:] not in (["-h"], ["--help"]) or below in paths:
        return None
    return overview(commands, below) if any(path[: len(below)] == below for path in paths) else None


def overview(commands: Sequence[Command], below: tuple[str, ...] = ()) -> str:
    """The help of `edgeseal`, or of one group of its commands."""
    shown = [command for command in commands if command.path[: len(below)] == below]
    width = max((len(" ".join(command.path)) for command in shown), default=0)
    lines = [f"  {' '.join(command.path):{width}}  {command.help}" for command in shown]
    called = " ".join(("edgeseal", *below))
    return "\n".join([f"usage: {called} COMMAND ...", "", _PROMISE, "", "commands:", *lines, "", _EVERY])


class _Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing and exiting."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint=f"see `{self.prog} --help`")


def _goes_on(command: Command, other: Command) -> bool:
    return len(other.path) > len(command.path) and other.path[: len(command.path)] == command.path


def _next_words(typed: tuple[str, ...], paths: Iterable[tuple[str, ...]]) -> list[str]:
    return sorted({path[len(typed)] for path in paths if path[: len(typed)] == typed and len(path) > len(typed)})


def _unknown_command(typed: tuple[str, ...], known: list[str]) -> InputError:
    near = difflib.get_close_matches(typed[-1], known, n=1)
    holder = " ".join(("edgeseal", *typed[:-1]))
    hint = f"did you mean `{holder} {near[0]}`?" if near else f"one of: {', '.join(known)}; see `{holder} --help`"
    return InputError(f"there is no command `edgeseal {' '.join(typed)}`", hint=hint)
