"""`python -m benchmarks.update_delta`: what an update costs a device, in bytes and in memory, next to other methods.

Bytes are what has to be fetched to turn one root into the next, index included, without HTTP headers. Other methods are
given the image as the builder makes it, and the same tree in an image that is not compressed, which suits most of them
better. docs/adr/0014-delta-by-verity-leaves.md has the results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from appliance.formats.release import Content, Release, Root, encode_release
from benchmarks.update_methods import METHODS
from benchmarks.update_pairs import Image, Pair, make_pairs
from builder.publish.delta import make_delta
from builder.review.verity import compute_tree

FLOORS = {"one file changed": 0.061, "security update": 6.4, "patch": 11.5, "minor": 31.6}
"""MB; measured for DESIGN.md section 8 on a root of 235 MB installed."""


def main(argv: Sequence[str] | None = None) -> int:
    """argv: without the program's name. Returns the exit code."""
    arguments = _parse(argv)
    with make_pairs(arguments.profile, arguments.patch, arguments.minor) as pairs:
        result = {"profile": arguments.profile, "pairs": [measure(pair) for pair in pairs]}
    for row, floor in zip(result["pairs"], FLOORS.values(), strict=True):
        row["floor_mb"] = floor
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)
    return 0


def measure(pair: Pair) -> dict[str, Any]:
    """Everything about one pair, as plain data."""
    print(f"{pair.name} …", file=sys.stderr)
    methods = {}
    for method in METHODS:
        methods[method.name] = {
            "sealed": method.measure(pair.old.sealed, pair.new.sealed),
            "plain": method.measure(pair.old.plain, pair.new.plain),
        }
    sizes = {"sealed": pair.new.sealed.stat().st_size, "plain": pair.new.plain.stat().st_size}
    return {"name": pair.name, "what": pair.what, "sizes": sizes, "ours": stage_pair(pair), "methods": methods}


def stage_pair(pair: Pair) -> dict[str, Any]:
    """Publish the new root, and stage it with the device's code over an empty slot, in a process of its own."""
    with TemporaryDirectory(dir=pair.new.sealed.parent) as name:
        where = Path(name)
        root, hashes = _root_of(pair.new)
        delta = make_delta(pair.new.sealed, root, where).delta
        (where / "release.json").write_bytes(encode_release(_release(root, delta)))
        shutil.copyfile(pair.old.sealed, where / "run.data")
        (where / "run.hashes").write_bytes(_root_of(pair.old)[1])
        for file, size in (("in.data", root.size), ("in.hashes", len(hashes))):
            with (where / file).open("wb") as stream:
                stream.truncate(size)
        words = [sys.executable, "-m", "benchmarks.update_device", str(where)]
        found: dict[str, Any] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
        if (where / "in.data").read_bytes() != pair.new.sealed.read_bytes():
            raise RuntimeError("the staged slot is not the new root")
        return found | {"groups": delta.groups.size, "leaves": delta.leaves.size, "frames": delta.frames.size}


def _root_of(image: Image) -> tuple[Root, bytes]:
    tree = compute_tree(image.sealed, salt=bytes.fromhex(image.salt), uuid=image.uuid)
    root = Root(
        size=image.sealed.stat().st_size,
        hash_size=len(tree.area),
        root_hash=tree.root_hash,
        salt=image.salt,
        uuid=image.uuid,
    )
    return root, tree.area


def _release(root: Root, delta: Any) -> Release:
    return Release(
        product="benchmark",
        profile="benchmark",
        architecture="x86_64",
        version=2,
        security_epoch=0,
        built=0,
        development=True,
        root=root,
        delta=delta,
        uki=Content(sha256="0" * 64, size=1),
    )


def _show(result: dict[str, Any]) -> None:
    console = Console(width=150)
    pairs = result["pairs"]
    for pair in pairs:
        console.print(f"{pair['name']}: {pair['what']}", highlight=False)
    sizes = pairs[0]["sizes"]
    console.print(f"new root: {_mb(sizes['sealed'])} MB; not compressed {_mb(sizes['plain'])} MB", highlight=False)
    table = Table(title="MB to fetch: of the image as built / of the one not compressed", title_justify="left")
    table.add_column("method")
    for pair in pairs:
        table.add_column(pair["name"], justify="right")
    table.add_row("edgeseal", *(_mb(pair["ours"]["bytes"]) for pair in pairs), style="bold")
    for method in pairs[0]["methods"]:
        found = [pair["methods"][method] for pair in pairs]
        table.add_row(method, *(f"{_mb(row['sealed'])} / {_mb(row['plain'])}" for row in found))
    table.add_section()
    table.add_row("floor in DESIGN.md (235 MB installed)", *(f"{pair['floor_mb']}" for pair in pairs))
    table.add_row("ranges asked for", *(str(pair["ours"]["ranges"]) for pair in pairs))
    table.add_row("peak memory of the device's process, MB", *(f"{pair['ours']['peak'] / 1e6:.1f}" for pair in pairs))
    table.add_row("seconds to stage, from a local disk", *(f"{pair['ours']['seconds']:.2f}" for pair in pairs))
    console.print(table)


def _mb(size: int | None) -> str:
    return "missing" if size is None else f"{size / 1e6:.3f}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.update_delta", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("profile", nargs="?", default="virtual-x86_64", help="the profile to build")
    parser.add_argument("--patch", default="1.31.0", metavar="VERSION", help="an onnxruntime just before the profile's")
    parser.add_argument(
        "--minor", default="1.30.0", metavar="VERSION", help="an onnxruntime of the minor version before"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
