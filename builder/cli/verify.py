"""edgeseal verify: check a build from the public keys alone; with --rebuild make it once more and compare."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from appliance.core.errors import InputError, Place
from builder.cli.command import Command
from builder.host.paths import keys_directory
from builder.host.progress import step
from builder.host.toolstree import tools_tree
from builder.review.manifest import MANIFEST_NAME, decode_manifest
from builder.review.rebuild import rebuild_and_compare
from builder.review.verify import verify_directory
from builder.signing.keyset import load_keys, load_public_keys, require_release


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="the output of `edgeseal build`")
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, help="certificates ROLE.crt to trust; default: your own keys"
    )
    parser.add_argument("--release", action="store_true", help="refuse development keys")
    parser.add_argument(
        "--rebuild", action="store_true", help="build again and compare every byte (needs the private keys)"
    )


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    directory: Path = arguments.directory
    trusted = arguments.keys or _default_keys(directory, release=arguments.release)
    keys = load_public_keys(trusted)
    if arguments.release:
        require_release(keys)
    tools = tools_tree()
    with step(f"verify {directory}"):
        report = verify_directory(directory, keys, tools)
    result: dict[str, Any] = {
        "directory": str(directory),
        "keys": str(trusted),
        "ok": report.ok,
        "checks": [asdict(check) for check in report.checks],
    }
    if arguments.rebuild:
        differences = [asdict(item) for item in rebuild_and_compare(directory, load_keys(trusted), tools)]
        result["rebuild"] = {"equal": not differences, "differences": differences}
        result["ok"] = result["ok"] and not differences
    return result


def _default_keys(directory: Path, *, release: bool) -> Path:
    """The user's own keys of the kind that the build says it was signed with."""
    try:
        manifest = decode_manifest((directory / MANIFEST_NAME).read_bytes())
    except FileNotFoundError as error:
        hint = "give the output directory of `edgeseal build`"
        raise InputError(f"there is no {MANIFEST_NAME}", place=Place(str(directory)), hint=hint) from error
    return keys_directory() / ("dev" if manifest.development and not release else "release")


def _render(result: dict[str, Any]) -> str:
    width = max(len(check["name"]) for check in result["checks"])
    lines = [
        f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']:{width}}  {check['detail']}" for check in result["checks"]
    ]
    if "rebuild" in result:
        lines += _render_rebuild(result["rebuild"])
    return "\n".join([*lines, "", f"{result['directory']}: {_verdict(result)} (keys: {result['keys']})"])


def _verdict(result: dict[str, Any]) -> str:
    bad = sum(not check["ok"] for check in result["checks"])
    if bad:
        return f"NOT verified: {bad} of {len(result['checks'])} checks failed"
    if "rebuild" not in result:
        return "verified"
    return "verified and reproduced" if result["rebuild"]["equal"] else "verified, but NOT reproduced"


def _render_rebuild(rebuild: dict[str, Any]) -> list[str]:
    if rebuild["equal"]:
        return ["ok    rebuilt: every byte is equal"]
    first, *others = rebuild["differences"]
    lines = [
        f"FAIL  rebuilt: {first['file']} differs at byte {first['offset']}: {first['where']}",
        f"        this build  {first['old']}",
        f"        rebuilt     {first['new']}",
    ]
    return lines + [f"      {item['file']} differs too: {item['where']}" for item in others]


COMMANDS = (
    Command(
        path=("verify",),
        help="check every hash and signature of a build; with --rebuild build it again and compare",
        arguments=_arguments,
        execute=_execute,
        render=_render,
        exit_code=lambda result: 0 if result["ok"] else 1,
    ),
)
