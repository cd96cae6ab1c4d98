"""The command line: finds the commands, parses, prints, and turns errors into messages and exit codes.

0 done · 1 failed · 2 your input was wrong · 130 interrupted. stdout is data, stderr is talk; with --json an error is
data too. A traceback means a bug of ours, never a user's mistake.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any, NoReturn

import builder.cli
from appliance.core.errors import EdgesealError, InputError, Place
from builder.cli.command import Command
from builder.profile.problem import Problem, ProfileError

_INTERRUPTED = 130
_ENVIRONMENT_FAULTS = {
    errno.ENOSPC: "free some space there and run it again",
    errno.EDQUOT: "free some space there and run it again",
    errno.EROFS: "choose a directory that can be written",
    errno.EACCES: "choose a directory that you may use",
}


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name; by default the process's. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except EdgesealError as error:
        _report(error, as_json="--json" in words)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return 1
    except OSError as fault:
        if fault.errno not in _ENVIRONMENT_FAULTS:
            raise
        _report(_environment_error(fault), as_json="--json" in words)
        return EdgesealError.exit_code


def discover_commands() -> tuple[Command, ...]:
    """The COMMANDS of every module in builder/cli/, sorted by path."""
    found: list[Command] = []
    for module in sorted(pkgutil.iter_modules(builder.cli.__path__), key=lambda module: module.name):
        if module.name not in ("main", "command"):
            found.extend(getattr(importlib.import_module(f"builder.cli.{module.name}"), "COMMANDS", ()))
    return tuple(sorted(found, key=lambda command: command.path))


def build_parser(commands: Iterable[Command]) -> argparse.ArgumentParser:
    """One parser for all verbs; what it refuses becomes an InputError."""
    root = _Parser(prog="edgeseal", description="One hardware profile in, a signed and reproducible OS image out.")
    root.add_argument("--version", action="version", version=f"edgeseal {version()}")
    groups: dict[tuple[str, ...], Any] = {(): root.add_subparsers(title="commands", metavar="COMMAND")}
    by_group: dict[str, list[str]] = {}
    listed = list(commands)
    for command in listed:
        if len(command.path) > 1:
            by_group.setdefault(command.path[0], []).append(command.path[-1])
    for command in listed:
        holder = command.path[:-1]
        if holder and holder not in groups:
            verbs = ", ".join(by_group[holder[0]])
            group = groups[()].add_parser(holder[0], help=verbs, description=f"edgeseal {holder[0]}: {verbs}")
            groups[holder] = group.add_subparsers(title="commands", metavar="COMMAND")
        parser = groups[holder].add_parser(command.path[-1], help=command.help, description=command.help)
        parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
        command.arguments(parser)
        parser.set_defaults(command=command)
    return root


def version() -> str:
    """The installed version."""
    return metadata.version("edgeseal")


class _Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing and exiting."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint=f"see `{self.prog} --help`")


def _run(words: list[str]) -> int:
    commands = discover_commands()
    _refuse_unknown_command(words, {command.path for command in commands})
    arguments = build_parser(commands).parse_args(words)
    command: Command = arguments.command
    result = command.execute(arguments)
    text = json.dumps(result, indent=2, ensure_ascii=False) if arguments.json else command.render(result)
    if text:
        print(text, flush=True)
    return command.exit_code(result)


def _refuse_unknown_command(words: Sequence[str], paths: set[tuple[str, ...]]) -> None:
    """argparse would list every verb; name the nearest one instead. --help and --version pass."""
    typed: tuple[str, ...] = ()
    for word in words:
        if word.startswith("-"):
            break
        if typed in paths:
            return
        known = sorted({path[len(typed)] for path in paths if path[: len(typed)] == typed})
        if word not in known:
            raise _unknown_command((*typed, word), known)
        typed = (*typed, word)
    if typed not in paths and not {"-h", "--help", "--version"} & set(words):
        known = sorted({path[len(typed)] for path in paths if path[: len(typed)] == typed})
        called = " ".join(("edgeseal", *typed))
        raise InputError(f"{called}: no command given", hint=f"one of: {', '.join(known)}; see `{called} --help`")


def _unknown_command(typed: tuple[str, ...], known: list[str]) -> InputError:
    near = difflib.get_close_matches(typed[-1], known, n=1)
    holder = " ".join(("edgeseal", *typed[:-1]))
    hint = f"did you mean `{holder} {near[0]}`?" if near else f"one of: {', '.join(known)}; see `{holder} --help`"
    return InputError(f"there is no command `edgeseal {' '.join(typed)}`", hint=hint)


def _environment_error(fault: OSError) -> EdgesealError:
    where = f"{fault.filename}: " if fault.filename else ""
    return EdgesealError(f"{where}{(fault.strerror or str(fault)).lower()}", hint=_ENVIRONMENT_FAULTS[fault.errno or 0])


def _report(error: EdgesealError, *, as_json: bool) -> None:
    problems = error.problems if isinstance(error, ProfileError) else ()
    for one in problems or (error,):
        print(f"error: {one}", file=sys.stderr)
        if one.hint:
            print(f"hint: {one.hint}", file=sys.stderr)
    if as_json:
        data = {"error": _error_data(error), "problems": [_error_data(problem) for problem in problems]}
        print(json.dumps(data, indent=2, ensure_ascii=False), flush=True)


def _error_data(error: EdgesealError | Problem) -> dict[str, Any]:
    place: Place | None = error.place
    return {
        "message": error.message,
        "file": None if place is None else place.file,
        "line": None if place is None else place.line,
        "hint": error.hint,
    }


if __name__ == "__main__":
    sys.exit(main())
