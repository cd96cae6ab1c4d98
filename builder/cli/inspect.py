"""edgeseal inspect: what is in an image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from appliance.core.errors import InputError, Place
from builder.cli.command import Command
from builder.host.toolstree import tools_tree
from builder.review.inspect import describe_path, overview
from builder.review.manifest import MANIFEST_NAME, Manifest, decode_manifest
from builder.review.opened import open_root


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="the output of `edgeseal build`")
    parser.add_argument("path", metavar="PATH", nargs="?", help="a file or directory of the image")


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    image = arguments.directory / "root.erofs"
    if not image.is_file():
        hint = "give the output directory of `edgeseal build`"
        raise InputError("there is no root.erofs", place=Place(str(arguments.directory)), hint=hint)
    tools = tools_tree()
    if arguments.path is not None:
        return describe_path(image, arguments.path, tools)
    with open_root(image, tools) as root:
        return overview(root, _manifest(arguments.directory), tools)


def _manifest(directory: Path) -> Manifest | None:
    path = directory / MANIFEST_NAME
    return decode_manifest(path.read_bytes()) if path.is_file() else None


def _render(result: dict[str, Any]) -> str:
    return _render_path(result) if "path" in result else _render_overview(result)


def _render_path(result: dict[str, Any]) -> str:
    if "entries" in result:
        return "\n".join(_entry(entry) for entry in result["entries"]) or "(empty)"
    if result.get("text") is not None:
        return str(result["text"]).removesuffix("\n")
    return "\n".join(f"{key}: {value}" for key, value in result.items() if value not in (None, []))


def _entry(entry: dict[str, Any]) -> str:
    arrow = f" -> {entry['target']}" if entry["target"] else ""
    kind = entry["type"][0] if entry["type"] != "symlink" else "l"
    return f"{kind} {entry['mode']} {entry['owner']:9} {entry['size']:>10}  {entry['path'].rpartition('/')[2]}{arrow}"


def _render_overview(result: dict[str, Any]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in result["files"].items())
    lines = [*_image_lines(result["image"])]
    lines += [f"files        {kinds}; {result['bytes'] / 1e6:.1f} MB"]
    lines += [f"kernel       {' '.join(result['kernel']['versions'])}, {len(result['kernel']['modules'])} modules"]
    lines += [f"programs     {len(result['programs'])}", f"packages     {len(result['packages'])}"]
    lines += [f"users        {' '.join(user['name'] for user in result['users'])}"]
    lines += [f"units        {len(result['units'])} from power-on to default.target"]
    lines += ["", "services, worst sandbox first (systemd-analyze security; 0.0 is best):"]
    lines += [f"  {_tenths(service):>4}  {service['unit']}  ({service['user']})" for service in _by_exposure(result)]
    lines += ["", "sockets:"]
    lines += [f"  {item['family']:8} {item['address']}  ({item['unit']})" for item in result["sockets"]]
    lines += ["", f"findings: {len(result['findings']) or 'none'}"]
    lines += [f"  {item['rule']:17} {item['path']}: {item['detail']}" for item in result["findings"]]
    lines += [f"  (accepted) {item['rule']} {item['path']}: {item['accepted']}" for item in result["accepted_findings"]]
    return "\n".join(lines)


def _image_lines(image: dict[str, Any] | None) -> list[str]:
    if image is None:
        return []
    mark = ", DEVELOPMENT" if image["development"] else ""
    return [
        f"image        {image['product']} {image['version']} ({image['profile']}, {image['architecture']}{mark})",
        f"root hash    {image['root_hash']}",
        f"command line {' '.join(_shortened(word) for word in image['command_line'])}",
    ]


def _shortened(word: str) -> str:
    return word if len(word) <= 80 else f"{word[:60]}…"


def _by_exposure(result: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(result["services"], key=lambda service: -(service["exposure_tenths"] or 0))


def _tenths(service: dict[str, Any]) -> str:
    value = service["exposure_tenths"]
    return "-" if value is None else f"{value / 10:.1f}"


COMMANDS = (
    Command(
        path=("inspect",),
        help="show what is in an image: files, units, users, sockets, capabilities, findings; or one path of it",
        arguments=_arguments,
        execute=_execute,
        render=_render,
    ),
)
