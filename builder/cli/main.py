"""The command line: finds the commands, parses, prints, and turns errors into messages and exit codes.

0 done · 1 failed · 2 your input was wrong · 130 interrupted · 143 terminated. stdout is data, stderr is talk; with
--json an error is data too. A traceback means a bug of ours, never a user's mistake.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from appliance.core.errors import EdgesealError, Place
from builder.cli.command import problem_data
from builder.cli.parse import asked_overview, choose, commands_for, parser_of
from builder.profile.problem import ProfileError

_INTERRUPTED, _TERMINATED = 130, 143
_ENVIRONMENT_FAULTS = {
    errno.ENOSPC: "free some space there and run it again",
    errno.EDQUOT: "free some space there and run it again",
    errno.EROFS: "choose a directory that can be written",
    errno.EACCES: "choose a directory that you may use",
}


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name; by default the process's. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        signal.signal(signal.SIGTERM, _terminate)
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


def _terminate(_number: int, _frame: object) -> None:
    """Unwind, so that temporary files and started programs go."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(_TERMINATED)


def version() -> str:
    """The installed version."""
    return metadata.version("edgeseal")


def _run(words: list[str]) -> int:
    if words == ["--version"]:
        print(f"edgeseal {version()}")
        return 0
    commands = commands_for(words)
    if (help_text := asked_overview(words, commands)) is not None:
        print(help_text)
        return 0
    command, rest = choose(words, commands)
    arguments = parser_of(command, commands).parse_args(rest)
    result = command.execute(arguments)
    if not arguments.json:
        _warn(result)
    indent = None if command.lines else 2
    text = json.dumps(result, indent=indent, ensure_ascii=False) if arguments.json else command.render(result)
    if text:
        print(text, flush=True)
    return command.exit_code(result)


def _warn(result: Any) -> None:
    for warning in result.get("overdue", ()) if isinstance(result, dict) else ():
        place = Place(warning["file"], warning["line"])
        print(f"warning: {place}: {warning['message']}\nhint: {warning['hint']}", file=sys.stderr)


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
        data = {"error": problem_data(error), "problems": [problem_data(problem) for problem in problems]}
        print(json.dumps(data, indent=2, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    sys.exit(main())
