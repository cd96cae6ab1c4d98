"""`edgeseal lock`, `edgeseal lock-diff`: choose versions, and see what a new choice changes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from appliance.core.durable import write_durable
from appliance.core.errors import InputError, Place
from builder.cli.command import Command
from builder.host.progress import step
from builder.host.toolstree import default_pool
from builder.lock.codec import decode_lock, encode_lock
from builder.lock.compare import lock_changes
from builder.lock.requests import Request, profile_request, tools_request, vm_request
from builder.lock.resolve import resolve
from builder.lock.store import lock_path, shown
from builder.lock.types import Lock
from builder.profile.load import load_profile

_TREES = {"tools": tools_request, "vm": vm_request}


def read_lock_file(path: Path) -> Lock:
    """Raises InputError when there is none, DecodeError when it is not one."""
    try:
        return decode_lock(path.read_bytes(), file=shown(path))
    except FileNotFoundError as error:
        raise InputError("there is no such lock", place=Place(shown(path))) from error


def request_for(name: str) -> Request:
    """name: a profile by name or path, or `tools` or `vm`, the two trees of programs."""
    return _TREES[name]() if name in _TREES else profile_request(load_profile(name))


def _lock_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a profile, or `tools` or `vm`: the trees of programs")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when the lock no longer answers the profile"
    )


def _lock_execute(arguments: argparse.Namespace) -> dict[str, Any]:
    request = request_for(arguments.profile)
    path = lock_path(request.name)
    old = read_lock_file(path) if path.exists() or arguments.check else None
    if arguments.check:
        assert old is not None
        if old.request != request.digest():
            raise InputError(
                f"this lock answers an older form of {request.name}",
                place=Place(shown(path)),
                hint=f"edgeseal lock {request.name}",
            )
        return _result(path, old, old)
    with step(f"resolve {request.name}"):
        new = resolve(request, pool=default_pool())
    if old is not None and (old.packages, old.wheels, old.request) == (new.packages, new.wheels, new.request):
        return _result(path, old, old)  # only the indexes' date moved: the same lock
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durable(path, encode_lock(new))
    return _result(path, old, new)


def write_lock(name: str) -> None:
    """Choose versions now and write the lock, for callers that found none."""
    request = request_for(name)
    with step(f"resolve {request.name}"):
        lock = resolve(request, pool=default_pool())
    lock_path(request.name).parent.mkdir(parents=True, exist_ok=True)
    write_durable(lock_path(request.name), encode_lock(lock))


def _result(path: Path, old: Lock | None, new: Lock) -> dict[str, Any]:
    return {
        "lock": shown(path),
        "packages": len(new.packages),
        "wheels": len(new.wheels),
        "epoch": new.epoch,
        "changes": [asdict(change) for change in lock_changes(old, new)] if old else None,
    }


def _lock_render(result: dict[str, Any]) -> str:
    head = f"{result['lock']}: {result['packages']} packages, {result['wheels']} wheels"
    if result["changes"] is None:
        return f"{head}, new"
    return "\n".join([head, *_change_lines(result["changes"])]) if result["changes"] else f"{head}, unchanged"


def _change_lines(changes: list[dict[str, Any]]) -> list[str]:
    return [
        f"{change['kind']:9} {change['what']:8} {change['name']}  {change['old'] or '–'} → {change['new'] or '–'}"
        for change in changes
    ]


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD", help="a lock file")
    parser.add_argument("new", type=Path, metavar="NEW", help="a lock file")


def _diff_execute(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return [asdict(change) for change in lock_changes(read_lock_file(arguments.old), read_lock_file(arguments.new))]


def _diff_render(changes: list[dict[str, Any]]) -> str:
    return "\n".join(_change_lines(changes)) or "no package and no wheel differs"


COMMANDS = (
    Command(
        path=("lock",),
        help="choose the exact packages and wheels of a profile and write its lock",
        arguments=_lock_arguments,
        execute=_lock_execute,
        render=_lock_render,
    ),
    Command(
        path=("lock", "diff"),
        help="tell what differs between two locks, package by package",
        arguments=_diff_arguments,
        execute=_diff_execute,
        render=_diff_render,
    ),
)
