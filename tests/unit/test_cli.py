"""The frame of the command line: verbs, exit codes, what goes to stdout and what to stderr."""

from __future__ import annotations

import argparse
import errno
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from appliance.core.errors import EdgesealError, InputError, Place, VerificationError
from builder.cli import main as cli
from builder.cli.command import Command
from builder.cli.parse import commands_for, discover_commands

Capture = pytest.CaptureFixture[str]


def command(*path: str, execute: Callable[[argparse.Namespace], Any], exit_code: int = 0) -> Command:
    return Command(
        path=path,
        help="a verb",
        arguments=lambda parser: None,
        execute=execute,
        render=lambda result: f"it is {result['value']}",
        exit_code=lambda _result: exit_code,
    )


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put these commands in place of the real ones."""

    def install(*commands: Command) -> None:
        monkeypatch.setattr(cli, "commands_for", lambda _words: commands)

    return install


def raising(error: BaseException) -> Callable[[argparse.Namespace], Any]:
    def execute(_arguments: argparse.Namespace) -> Any:
        raise error

    return execute


def test_a_result_is_text_for_a_person(verbs: Callable[..., None], capsys: Capture) -> None:
    verbs(command("tell", execute=lambda _: {"value": 3}))
    assert cli.main(["tell"]) == 0
    assert capsys.readouterr() == ("it is 3\n", "")


def test_a_result_is_data_with_json(verbs: Callable[..., None], capsys: Capture) -> None:
    verbs(command("tell", execute=lambda _: {"value": 3}))
    assert cli.main(["tell", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"value": 3}
    assert said.err == ""


def test_a_result_can_be_a_failure(verbs: Callable[..., None], capsys: Capture) -> None:
    verbs(command("compare", execute=lambda _: {"value": "different"}, exit_code=1))
    assert cli.main(["compare"]) == 1
    assert capsys.readouterr().out == "it is different\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (EdgesealError("the disk is full"), 1, "error: the disk is full\n"),
        (EdgesealError("no mkfs", hint="install it"), 1, "error: no mkfs\nhint: install it\n"),
        (VerificationError("not what was signed"), 1, "error: not what was signed\n"),
        (InputError("wrong", place=Place("a.yaml", 4), hint="right"), 2, "error: a.yaml:4: wrong\nhint: right\n"),
        (OSError(errno.ENOSPC, "No space left on device", "out/disk.raw"), 1, None),
        (PermissionError(errno.EACCES, "Permission denied", "/out"), 1, None),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_and_exit_codes(
    error: BaseException, code: int, said: str | None, verbs: Callable[..., None], capsys: Capture
) -> None:
    verbs(command("fail", execute=raising(error)))
    assert cli.main(["fail"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    if said is not None:
        assert captured.err == said


def test_no_space_names_the_file(verbs: Callable[..., None], capsys: Capture) -> None:
    verbs(command("fail", execute=raising(OSError(errno.ENOSPC, "No space left on device", "out/disk.raw"))))
    cli.main(["fail"])
    assert capsys.readouterr().err == (
        "error: out/disk.raw: no space left on device\nhint: free some space there and run it again\n"
    )


def test_an_error_is_data_with_json(verbs: Callable[..., None], capsys: Capture) -> None:
    verbs(command("fail", execute=raising(InputError("wrong", place=Place("a.yaml", 4), hint="right"))))
    assert cli.main(["fail", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "error": {"message": "wrong", "file": "a.yaml", "line": 4, "hint": "right"},
        "problems": [],
    }
    assert said.err == "error: a.yaml:4: wrong\nhint: right\n"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.EBADF, "Bad file descriptor")], ids=repr)
def test_a_bug_keeps_its_traceback(error: Exception, verbs: Callable[..., None]) -> None:
    verbs(command("fail", execute=raising(error)))
    with pytest.raises(type(error)):
        cli.main(["fail"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "error: edgeseal: no command given\nhint: one of: build, keys; see `edgeseal --help`\n"),
        (["keys"], "error: edgeseal keys: no command given\nhint: one of: init, list; see `edgeseal keys --help`\n"),
        (["biuld"], "error: there is no command `edgeseal biuld`\nhint: did you mean `edgeseal build`?\n"),
        (
            ["paint"],
            "error: there is no command `edgeseal paint`\nhint: one of: build, keys; see `edgeseal --help`\n",
        ),
        (
            ["keys", "lsit"],
            "error: there is no command `edgeseal keys lsit`\nhint: did you mean `edgeseal keys list`?\n",
        ),
        (["build", "--out"], "error: unrecognized arguments: --out\nhint: see `edgeseal build --help`\n"),
        (["build", "--jso"], "error: unrecognized arguments: --jso\nhint: see `edgeseal build --help`\n"),
        (
            ["keys", "--json"],
            "error: edgeseal keys: no command given\nhint: one of: init, list; see `edgeseal keys --help`\n",
        ),
    ],
)
def test_words_that_are_no_command(words: list[str], said: str, verbs: Callable[..., None], capsys: Capture) -> None:
    verbs(
        command("build", execute=lambda _: {"value": 1}),
        command("keys", "init", execute=lambda _: {"value": 2}),
        command("keys", "list", execute=lambda _: {"value": 3}),
    )
    assert cli.main(words) == 2
    assert capsys.readouterr().err == said


def test_a_verb_can_have_a_longer_sibling(verbs: Callable[..., None], capsys: Capture) -> None:
    verbs(
        command("lock", execute=lambda _: {"value": "lock"}),
        command("lock", "diff", execute=lambda _: {"value": "diff"}),
    )
    assert cli.main(["lock"]) == 0
    assert cli.main(["lock", "diff"]) == 0
    assert capsys.readouterr().out == "it is lock\nit is diff\n"
    with pytest.raises(SystemExit):
        cli.main(["lock", "--help"])
    assert "See also edgeseal lock diff: a verb." in capsys.readouterr().out


def test_version(capsys: Capture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeseal {cli.version()}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--help"], "  build      a verb\n  keys init  a verb\n"),
        (["-h"], "  build      a verb\n  keys init  a verb\n"),
        (["keys", "--help"], "usage: edgeseal keys COMMAND ..."),
    ],
)
def test_help(words: list[str], said: str, verbs: Callable[..., None], capsys: Capture) -> None:
    verbs(command("build", execute=lambda _: {}), command("keys", "init", execute=lambda _: {}))
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    assert said in captured.out
    assert captured.err == ""


COMMANDS = discover_commands()


def test_commands_are_found_and_distinct() -> None:
    paths = [found.path for found in COMMANDS]
    assert paths == sorted(set(paths))
    assert {("profile", "check"), ("profile", "list"), ("profile", "schema")} <= set(paths)


@pytest.mark.parametrize("verb", sorted({found.path[0] for found in COMMANDS}))
def test_one_verb_alone_is_the_same_as_all_together(verb: str) -> None:
    """A command that stands in another module than its siblings would be lost."""
    alone = [found for found in commands_for([verb]) if found.path[0] == verb]
    assert [found.path for found in alone] == [found.path for found in COMMANDS if found.path[0] == verb]


@pytest.mark.parametrize("found", COMMANDS, ids=lambda found: " ".join(found.path))
def test_every_command_has_help_and_json(found: Command, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*found.path, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "--json" in said
    assert found.help
    assert not found.help.endswith(".")


def test_profile_list(capsys: Capture) -> None:
    assert cli.main(["profile", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)
    assert cli.main(["profile", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(rows[0]["name"])


def test_profile_schema_is_the_same_with_json(capsys: Capture) -> None:
    cli.main(["profile", "schema"])
    plain = capsys.readouterr().out
    cli.main(["profile", "schema", "--json"])
    assert capsys.readouterr().out == plain


def test_profile_check(capsys: Capture) -> None:
    assert cli.main(["profile", "check", "smart-camera"]) == 0
    assert capsys.readouterr().out.endswith("profiles/smart-camera.yaml: nothing wrong\n")


def test_a_reader_that_goes_away_is_no_bug() -> None:
    """`edgeseal profile schema | head -1` leaves no traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "builder.cli.main", "profile", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
