"""edgeseal bundle: updates on a removable medium. Spec: docs/specs/bundle.md."""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.cli.command import Command
from builder.host.paths import cache_directory
from builder.host.progress import step
from builder.host.toolstree import tools_tree
from builder.publish.bundle import Pair, create_bundle, verify_bundle
from builder.publish.deviceview import SeenRepository, label_of, read_root
from builder.publish.mediumcopy import apply_bundle, make_image
from builder.publish.sitereport import bundle_data, render_bundle


def _root_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vendor-root", type=Path, required=True, metavar="FILE", help="the vendor's trusted root")
    parser.add_argument("--site-root", type=Path, required=True, metavar="FILE", help="the site's trusted root")


def _create_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="the new directory")
    parser.add_argument(
        "--vendor", required=True, metavar="WHERE", help="the vendor's repository: address or directory"
    )
    parser.add_argument("--site", required=True, metavar="WHERE", help="the site's repository: address or directory")
    _root_arguments(parser)
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM: who may certify an https: address")
    parser.add_argument("--product", action="append", default=[], metavar="PRODUCT", help="(default: all of the site)")


def _create(arguments: argparse.Namespace) -> dict[str, Any]:
    ca = None if arguments.ca is None else arguments.ca.read_bytes()
    pair = _pair(arguments, arguments.vendor, arguments.site, cache_directory() / "repositories", ca=ca)
    with step("collect what the site approved"):
        label, missing = create_bundle(arguments.directory, pair, arguments.product, now=_now())
    return {
        "directory": str(arguments.directory),
        "files": label.files,
        "bytes": label.bytes,
        "products": {item.product: list(item.versions) for item in label.products},
        "models": {
            item.product: {model.model: list(model.versions) for model in item.models} for item in label.products
        },
        "missing": missing,
    }


def _render_create(result: Any) -> str:
    lines = [f"{result['directory']}: {result['files']} files, {result['bytes']} bytes"]
    for product, versions in result["products"].items():
        lines.append(f"{product}: {', '.join(map(str, versions)) or 'no version'}")
        models = result["models"][product]
        lines += [f"  model {name}: {', '.join(map(str, found))}" for name, found in models.items()]
    return "\n".join([*lines, *(f"approved, but not at the vendor: {path}" for path in result["missing"])])


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the bundle or the medium is")
    _root_arguments(parser)


def _verify(arguments: argparse.Namespace) -> dict[str, Any]:
    """As a device that never saw either repository: what it accepts here, every device of the site accepts."""
    label_of(arguments.directory)
    where = str(arguments.directory)
    with tempfile.TemporaryDirectory(prefix="edgeseal-verify-") as store, step("verify as a device does"):
        pair = _pair(arguments, where, where, Path(store))
        return bundle_data(verify_bundle(arguments.directory, pair, now=_now()))


def _apply_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="the bundle")
    parser.add_argument("medium", type=Path, metavar="MEDIUM", help="where a medium is mounted; or a new file NAME.img")


def _apply(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.medium.suffix == ".img":
        with step("make a FAT image"):
            files, size = make_image(arguments.directory, arguments.medium, tools_tree())
    else:
        files, size = apply_bundle(arguments.directory, arguments.medium)
    return {"medium": str(arguments.medium), "files": files, "bytes": size}


def _pair(arguments: argparse.Namespace, vendor: str, site: str, store: Path, *, ca: bytes | None = None) -> Pair:
    return Pair(
        vendor=SeenRepository(vendor, read_root(arguments.vendor_root), store, name="vendor", ca=ca),
        site=SeenRepository(site, read_root(arguments.site_root), store, name="site", ca=ca),
    )


def _now() -> int:
    return int(datetime.now(UTC).timestamp())


COMMANDS = (
    Command(
        ("bundle", "create"), "collect what a site approved, for a medium", _create_arguments, _create, _render_create
    ),
    Command(("bundle", "verify"), "verify a medium as a device does", _verify_arguments, _verify, render_bundle),
    Command(
        ("bundle", "apply"),
        "copy a bundle onto a medium",
        _apply_arguments,
        _apply,
        lambda result: f"{result['medium']}: {result['files']} files written, {result['bytes']} bytes",
    ),
)
