"""Promises of the repository itself: hash-locked, no secrets, no traces of the machine it was made on."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.cli.main import version
from builder.host.paths import source_root

ROOT = source_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IGNORED = {".git", ".venv", "out", "dist", "shared", "node_modules"}
LOCKS = sorted([*ROOT.glob("requirements*.lock"), *ROOT.glob("profiles/locks/*.json")])


def files(directory: Path = ROOT) -> Iterator[Path]:
    """What belongs to the repository, without asking git: a release archive has none."""
    for path in sorted(directory.iterdir()):
        if path.name in IGNORED or path.name.endswith(("_cache", "__pycache__", ".egg-info", ".hypothesis")):
            continue
        if path.is_symlink() or path.is_file():
            yield path
        else:
            yield from files(path)


def texts() -> Iterator[tuple[str, str]]:
    """(name, text) of every text file."""
    for path in files():
        data = path.read_bytes()
        if b"\0" not in data[:4096]:
            yield str(path.relative_to(ROOT)), data.decode()


TEXTS = dict(texts())


def test_the_walk_finds_the_repository() -> None:
    assert {"LICENSE", "Makefile", "README.md", ".ci/run", "builder/cli/main.py"} <= set(TEXTS)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_no_lock_names_a_host(path: Path) -> None:
    """Where packages come from is the machine's affair: a mirror, an index of the plant, a pool on a disk."""
    assert re.findall(r"[a-z]+://\S+", path.read_text()) == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-bootstrap.lock"])
def test_every_python_package_is_pinned_by_hash(name: str) -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE))
    for block in filter(str.strip, blocks):
        assert re.match(r"[a-z0-9._-]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", block), block[:80]


def test_the_lock_has_what_the_project_asks_for() -> None:
    locked = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]):
        wanted = Requirement(text)
        found = locked.get(canonicalize_name(wanted.name))
        assert found is not None, f"{text} is not in requirements.lock: run `make lock`"
        assert wanted.specifier.contains(found, prereleases=True), f"{wanted.name} {found} does not fit `{text}`"


def test_no_private_key_is_in_the_tree() -> None:
    key = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=:, -]{32}")
    assert [name for name, text in TEXTS.items() if key.search(text)] == []
    assert [str(path) for path in files() if path.suffix in (".key", ".p12", ".pfx")] == []


def test_no_path_of_the_machine_it_was_made_on() -> None:
    home = re.compile(r"/home/[a-z]\w*/|/Users/\w+/|" + "/wo" + "rk/")
    assert [name for name, text in TEXTS.items() if home.search(text)] == []


def test_python_files_say_what_they_are() -> None:
    for name, text in TEXTS.items():
        if name.endswith(".py") and text.strip():
            assert ast.get_docstring(ast.parse(text)), f"{name} has no docstring"


def test_text_files_end_with_a_newline_and_no_line_with_space() -> None:
    exempt = (".patch", ".bin", ".lock", "LICENSE")
    for name, text in TEXTS.items():
        if text and not name.endswith(exempt):
            assert text.endswith("\n"), f"{name} has no final newline"
            assert not re.search(r"[ \t]+$", text, re.MULTILINE), f"{name} has spaces at the end of a line"


def test_programs_can_be_run() -> None:
    for name, text in TEXTS.items():
        if text.startswith("#!") and Path(name).suffix in ("", ".py", ".sh"):
            assert (ROOT / name).stat().st_mode & 0o111, f"{name} has no x bit"


def test_the_two_commands_of_the_readme_exist() -> None:
    for command in ("make demo", "make test"):
        assert command in TEXTS["README.md"]
        assert re.search(rf"^{command.split()[1]}:", TEXTS["Makefile"], re.MULTILINE)


def test_licence_and_version_are_said_the_same_everywhere() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in TEXTS["LICENSE"]
    assert version() == PROJECT["version"]
    assert "## [Unreleased]" in TEXTS["CHANGELOG.md"] or f"## [{PROJECT['version']}]" in TEXTS["CHANGELOG.md"]
