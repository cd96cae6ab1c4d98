"""Kernel modules: the profile's allow-list with everything that it depends on, hard and soft, and nothing else."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import InputError


def module_name(path: str) -> str:
    """`kernel/fs/erofs/erofs.ko.xz` → `erofs`; dashes become underscores, as the kernel has it."""
    return path.rsplit("/", 1)[1].split(".ko", 1)[0].replace("-", "_")


@dataclass(frozen=True)
class ModuleIndex:
    """depmod's indexes of a whole kernel package.

    paths: name → path below the version's directory. dependencies: name → names. soft: name → names or aliases wished
    for. aliases: (head, pattern, name), where head is what of the pattern stands before its first wildcard: tens of
    thousands of patterns are cheaper to rule out than to match. builtin: names compiled in.
    """

    paths: dict[str, str]
    dependencies: dict[str, tuple[str, ...]]
    soft: dict[str, tuple[str, ...]]
    aliases: tuple[tuple[str, str, str], ...]
    builtin: frozenset[str]

    def resolve(self, name: str) -> tuple[str, ...]:
        """The modules that a name or an alias stands for; empty when it is built in or unknown."""
        name = name.replace("-", "_")
        if name in self.paths:
            return (name,)
        near = ((pattern, module) for head, pattern, module in self.aliases if name.startswith(head))
        return tuple(sorted({module for pattern, module in near if fnmatch.fnmatchcase(name, pattern)}))


def read_index(directory: Path) -> ModuleIndex:
    """directory: usr/lib/modules/VERSION with depmod's files in it."""
    paths: dict[str, str] = {}
    dependencies: dict[str, tuple[str, ...]] = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        paths[module_name(path)] = path
        dependencies[module_name(path)] = tuple(module_name(item) for item in rest.split())
    soft: dict[str, tuple[str, ...]] = {}
    for line in (directory / "modules.softdep").read_text().splitlines():
        if line.startswith("softdep "):
            _, name, *wishes = line.split()
            soft[name] = soft.get(name, ()) + tuple(wish for wish in wishes if not wish.endswith(":"))
    aliases = []
    for line in (directory / "modules.alias").read_text().splitlines():
        if line.startswith("alias "):
            pattern, _, name = line.removeprefix("alias ").rpartition(" ")  # some patterns hold blanks
            pattern = pattern.replace("-", "_")
            aliases.append((re.split(r"[*?\[]", pattern, maxsplit=1)[0], pattern, name.replace("-", "_")))
    builtin = frozenset(module_name(line) for line in (directory / "modules.builtin").read_text().splitlines())
    return ModuleIndex(paths, dependencies, soft, tuple(aliases), builtin)


def closure(index: ModuleIndex, names: Iterable[str], *, where: str) -> tuple[str, ...]:
    """All module names that `names` need, sorted; what is built in needs no file.

    where: the profile's key, for the error. Raises InputError for a module that the kernel does not have.
    """
    chosen: set[str] = set()
    queue = []
    for name in names:
        normal = name.replace("-", "_")
        if normal not in index.paths and normal not in index.builtin:
            raise InputError(
                f"{where}: this kernel has no module {name}", hint="names are those of `modinfo`, without .ko"
            )
        queue.append(normal)
    while queue:
        name = queue.pop()
        if name in chosen or name not in index.paths:
            continue
        chosen.add(name)
        queue += index.dependencies[name]
        for wish in index.soft.get(name, ()):
            queue += index.resolve(wish)
    return tuple(sorted(chosen))
