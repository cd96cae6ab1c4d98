"""Write a plan to a directory, and read a directory back as a plan."""

from __future__ import annotations

import os
from pathlib import Path

from builder.host.paths import source_root
from builder.rootfs.entries import Directory, Entry, File, RootPlan, Symlink


def scan(directory: Path) -> RootPlan:
    """What stands below `directory`, sorted by path; files are referred to, not read."""
    found: dict[str, Entry] = {}
    for folder, names, files in os.walk(directory):
        base = Path(folder)
        for name in names + files:
            path = base / name
            relative = str(path.relative_to(directory))
            if path.is_symlink():
                found[relative] = Symlink(str(path.readlink()))
            elif path.is_dir():
                if not any(path.iterdir()):
                    found[relative] = Directory()
            else:
                found[relative] = File(source=path, mode=0o755 if path.stat().st_mode & 0o111 else 0o644)
    return dict(sorted(found.items()))


def write_tree(plan: RootPlan, target: Path) -> None:
    """Make `target` hold exactly the plan. Files of the cache are hard-linked where the filesystem allows it.

    Files of the checkout never are: an editor that writes in place would change what a finished step has made.
    Modes do not depend on the umask.
    """
    for path in sorted(plan):
        entry = plan[path]
        place = target / path
        _make_parents(place, target)
        if isinstance(entry, Directory):
            place.mkdir(exist_ok=True)
            place.chmod(entry.mode)
        elif isinstance(entry, Symlink):
            place.symlink_to(entry.target)
        else:
            _write_file(entry, place)


def _make_parents(place: Path, target: Path) -> None:
    missing = []
    parent = place.parent
    while parent != target and not parent.is_dir():
        missing.append(parent)
        parent = parent.parent
    for directory in reversed(missing):
        directory.mkdir()
        directory.chmod(0o755)


def _write_file(entry: File, place: Path) -> None:
    if entry.source is not None and _may_be_linked(entry.source, entry.mode):
        try:
            place.hardlink_to(entry.source)
        except OSError:
            pass  # another filesystem, or too many links: copy below
        else:
            return
    place.write_bytes(entry.read())
    place.chmod(entry.mode)


def _may_be_linked(source: Path, mode: int) -> bool:
    return source.stat().st_mode & 0o777 == mode and not source.is_relative_to(source_root())
