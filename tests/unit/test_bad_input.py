"""Wrong profiles: what the user reads is exact, the exit code is 2, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.cli.main import main
from builder.profile.load import decode_profile

DATA = Path(__file__).parent / "data"
GOOD = (DATA / "line-3.yaml").read_text()


@dataclass(frozen=True)
class Row:
    """One section of a table."""

    what: str
    removed: str
    added: str
    expected: str

    def text(self) -> str:
        """The wrong profile."""
        if not self.removed:
            return self.added
        assert ("\n" + GOOD).count("\n" + self.removed) == 1, f"{self.what}: what is removed must stand there once"
        return ("\n" + GOOD).replace("\n" + self.removed, "\n" + self.added, 1)[1:]


def rows(table: str) -> Iterator[Row]:
    for section in (DATA / table).read_text().split("\n== ")[1:]:
        what, *lines = section.splitlines(keepends=True)
        yield Row(
            what.strip(),
            removed="".join(line[2:] for line in lines if line.startswith("- ")),
            added="".join(line[2:] for line in lines if line.startswith("+ ")),
            expected="".join(line for line in lines if line.startswith(("error: ", "hint: "))),
        )


ROWS = (*rows("bad-profiles.txt"), *rows("bad-networks.txt"))


def test_there_are_enough_rows() -> None:
    assert len(ROWS) >= 150
    assert len({row.what for row in ROWS}) == len(ROWS)


def test_the_profile_that_the_rows_change_is_good() -> None:
    assert decode_profile(GOOD.encode(), file="line-3.yaml", stem="line-3").name == "line-3"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_wrong_profile(row: Row, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "line-3.yaml").write_text(row.text())
    assert main(["profile", "check", "line-3.yaml"]) == 2
    said = capsys.readouterr()
    assert said.err == row.expected
    assert said.out == ""
    assert [path.name for path in directory.iterdir()] == ["line-3.yaml"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "error: line-3.yaml:1: the file is empty\nhint: copy one of profiles/ and change it\n"),
        (b"\n", "error: line-3.yaml:1: the file is empty\nhint: copy one of profiles/ and change it\n"),
        (
            b"schema: 1\nname: l\xf6n\n",
            "error: line-3.yaml:2: not UTF-8 text\nhint: save the file as UTF-8\n",
        ),
        (
            b"schema: 1\nname: line\x07\n",
            "error: line-3.yaml:2: not YAML: the character U+0007\nhint: remove it; it may not be visible\n",
        ),
        (
            GOOD.encode() + b"#" * 300_000,
            "error: line-3.yaml: larger than 262144 bytes\nhint: a profile is a page or two of text\n",
        ),
    ],
    ids=["empty", "a blank line", "not UTF-8", "a control character", "too large"],
)
def test_bytes_that_are_no_profile(
    data: bytes, expected: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "line-3.yaml").write_bytes(data)
    assert main(["profile", "check", "line-3.yaml"]) == 2
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("virtual-x86", "error: no profile is called `virtual-x86`\nhint: did you mean `virtual-x86_64`?\n"),
        (
            "zzz",
            "error: no profile is called `zzz`\n"
            "hint: profiles: industrial-pc, npu-gateway, smart-camera, virtual-arm64, virtual-x86_64; or give a path\n",
        ),
        (
            "missing.yaml",
            "error: missing.yaml: cannot read the profile: no such file or directory\n"
            "hint: profiles of this checkout: "
            "industrial-pc, npu-gateway, smart-camera, virtual-arm64, virtual-x86_64\n",
        ),
        (
            "./",
            "error: .: cannot read the profile: is a directory\n"
            "hint: give the path of a YAML file, or a profile's name\n",
        ),
    ],
)
def test_profile_that_is_not_there(
    argument: str, expected: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "check", argument]) == 2
    assert capsys.readouterr().err == expected


def test_problems_as_json(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "line-3.yaml").write_text(GOOD.replace("version: 7", "version: 0").replace("esp: 256", "espp: 256"))
    assert main(["profile", "check", "--json", "line-3.yaml"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["error"]["message"] == "version: 0, expected a whole number from 1 to 2147483647"
    assert [(problem["file"], problem["line"], problem["hint"]) for problem in said["problems"]] == [
        ("line-3.yaml", 4, "write 1 or more"),
        ("line-3.yaml", 48, "did you mean `esp`?"),
    ]


def test_a_review_that_has_passed_is_a_warning(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "line-3.yaml").write_text(GOOD.replace("review: 2027-06-30", "review: 2020-01-31", 1))
    assert main(["profile", "check", "line-3.yaml"]) == 0
    said = capsys.readouterr()
    assert said.out == "line-3.yaml: nothing wrong\n"
    assert said.err.startswith(f"warning: {OVERDUE}")
    assert main(["profile", "check", "--json", "line-3.yaml"]) == 0
    assert json.loads(capsys.readouterr().out)["overdue"][0] == {
        "message": "network.conduits[0].review: `2020-01-31` has passed, the conduit `broker` is approved no longer",
        "file": "line-3.yaml",
        "line": 101,
        "hint": "have it reviewed by its owner (plant IT), and write the day until which it is approved",
    }


@pytest.mark.parametrize("words", [("profile", "check"), ("build", "--offline", "--lock", "line-3.lock.json")])
def test_a_review_that_has_passed_is_an_error_of_a_release(
    words: tuple[str, ...], directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "line-3.yaml").write_text(GOOD.replace("review: 2027-06-30", "review: 2020-01-31", 1))
    assert main([*words, "--release", "./line-3.yaml"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {OVERDUE}")
    assert [path.name for path in directory.iterdir()] == ["line-3.yaml"]


OVERDUE = (
    "line-3.yaml:101: network.conduits[0].review: `2020-01-31` has passed, the conduit `broker` is approved no longer\n"
    "hint: have it reviewed by its owner (plant IT), and write the day until which it is approved\n"
)
