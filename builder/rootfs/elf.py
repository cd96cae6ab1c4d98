"""What an ELF file loads: DT_NEEDED, and the libraries that it opens at run time and says so (`.note.dlopen`).

Source: the ELF specification; systemd's docs/ELF_DLOPEN_METADATA for the note.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

_MACHINES = {"x86_64": "EM_X86_64", "arm64": "EM_AARCH64"}
_PRIORITIES = {"required", "recommended"}


def is_elf(path: Path) -> bool:
    """Whether a file begins as an ELF file does."""
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def needed(path: Path, *, optional: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the libraries that an ELF file loads, sorted.

    optional: beginnings of names to follow too where the dlopen note calls them `suggested`. Empty for other files.
    """
    found: set[str] = set()
    with path.open("rb") as stream:
        try:
            elf = ELFFile(stream)
        except ELFError:
            return ()
        for section in elf.iter_sections():
            if isinstance(section, DynamicSection):
                found.update(str(tag.needed) for tag in _tags(section))
            elif isinstance(section, NoteSection) and section.name == ".note.dlopen":
                found.update(_dlopen_names(section, tuple(optional)))
    return tuple(sorted(found))


def _dlopen_names(section: NoteSection, optional: tuple[str, ...]) -> Iterable[str]:
    for note in section.iter_notes():
        raw = note["n_desc"]
        data = raw.encode("latin-1") if isinstance(raw, str) else bytes(raw)
        for feature in json.loads(data.rstrip(b"\0")):
            names = feature["soname"]
            if feature.get("priority", "recommended") in _PRIORITIES or names[0].startswith(optional):
                yield names[0]


def missing_libraries(directory: Path, *, architecture: str) -> dict[str, tuple[str, ...]]:
    """Path → libraries that an ELF file below `directory` needs and that stand nowhere in it. Empty when all is there.

    Only DT_NEEDED counts here: what a program opens at run time it can do without. Files for other processors (an NPU
    has libraries of its own) are not looked at.
    """
    files = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    names = {path.name for path in directory.rglob("*")}
    lacking = {}
    for path in sorted(files):
        if path.suffix in (".py", ".pyc", ".xz") or not is_elf(path):
            continue
        absent = tuple(name for name in _dt_needed(path, _MACHINES[architecture]) if name not in names)
        if absent:
            lacking[str(path.relative_to(directory))] = absent
    return lacking


def _tags(section: DynamicSection) -> Iterable[Any]:
    return section.iter_tags("DT_NEEDED")


def _dt_needed(path: Path, machine: str) -> Iterable[str]:
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        section = elf.get_section_by_name(".dynamic")
        if elf["e_machine"] == machine and isinstance(section, DynamicSection):
            yield from sorted(str(tag.needed) for tag in _tags(section))


def closure(start: Iterable[str], find: Callable[[str], Path | None], open_path: Callable[[str], Path]) -> set[str]:
    """All library names reachable from the files `start`.

    start: paths inside the tree. find: library name → its path inside the tree as Path, or None. open_path: path inside
    the tree → host path.
    """
    seen: set[str] = set()
    queue = list(start)
    while queue:
        for name in needed(open_path(queue.pop())):
            place = find(name)
            if place is not None and str(place) not in seen:
                seen.add(str(place))
                queue.append(str(place))
    return seen
