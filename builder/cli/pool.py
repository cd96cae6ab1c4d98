"""`edgeseal pool export|import|verify`: the store that keeps a lock buildable."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from builder.archive.transfer import export_pool, import_pool
from builder.cli.command import Command
from builder.cli.lock import read_lock_file
from builder.host.progress import step
from builder.host.toolstree import default_pool
from builder.lock.store import lock_path

_TREES = ("tools", "vm")


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the tar file to write")
    parser.add_argument(
        "--lock", action="append", default=[], metavar="NAME", help="only what this lock names (repeatable)"
    )


def _export(arguments: argparse.Namespace) -> dict[str, Any]:
    pool = default_pool()
    items = list(pool.items())
    epoch = 0
    if arguments.lock:
        locks = [read_lock_file(lock_path(name)) for name in (*arguments.lock, *_TREES)]
        items = [package.sha256 for lock in locks for package in lock.packages]
        items += [wheel.sha256 for lock in locks for wheel in lock.wheels]
        epoch = max(lock.epoch for lock in locks)
    with step("write the pool"):
        count = export_pool(pool, items, arguments.file, epoch=epoch)
    return {"file": str(arguments.file), "items": count, "bytes": arguments.file.stat().st_size}


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a tar file that `pool export` wrote")


def _import(arguments: argparse.Namespace) -> dict[str, Any]:
    with step("read the pool"):
        return {"file": str(arguments.file), "items": import_pool(default_pool(), arguments.file)}


def _verify(_arguments: argparse.Namespace) -> dict[str, Any]:
    pool = default_pool()
    with step("hash every item"):
        return {"items": sum(1 for _ in pool.items()), "broken": pool.broken_items()}


def _render_verify(result: dict[str, Any]) -> str:
    lines = [f"{result['items']} items, {len(result['broken'])} broken"]
    return "\n".join(lines + [f"broken: {name}" for name in result["broken"]])


COMMANDS = (
    Command(
        path=("pool", "export"),
        help="write the pool, or what a lock needs of it, to one file",
        arguments=_export_arguments,
        execute=_export,
        render=lambda result: f"{result['items']} items, {result['bytes']} bytes in {result['file']}",
    ),
    Command(
        path=("pool", "import"),
        help="take in what `pool export` wrote",
        arguments=_import_arguments,
        execute=_import,
        render=lambda result: f"{result['items']} items from {result['file']}",
    ),
    Command(
        path=("pool", "verify"),
        help="hash every item again",
        arguments=lambda _parser: None,
        execute=_verify,
        render=_render_verify,
        exit_code=lambda result: 1 if result["broken"] else 0,
    ),
)
