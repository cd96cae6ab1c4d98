"""The results of `edgeseal repo` as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def key(result: dict[str, Any]) -> str:
    """Of `repo key`."""
    return f"{result['file']}: {result['holder']}, {result['scheme']}, key {result['keyid']}"


def ceremony(result: dict[str, Any]) -> str:
    """Of what stages or finishes."""
    lines = [result["done"]]
    if result["staged"] is not None:
        lines += ["", *result["words"], "", *result["signatures"], "", f"send to the holders: {result['staged']}"]
        lines += [
            "they read it with `edgeseal repo sign FILE --show` and sign with `edgeseal repo sign FILE --key KEY`"
        ]
    if "versions" in result:
        versions = ", ".join(f"{role} {version}" for role, version in result["versions"].items())
        lines[0] = f"{'DEVELOPMENT ' if result['development'] else ''}repository {result['identity'][:16]}: {versions}"
        trusted = result["trusted_root"]
        lines += (
            [f"trusted root for images: {trusted}"] if trusted else ["the keys hold another repository's root.json"]
        )
    return "\n".join(lines)


def sign(result: dict[str, Any]) -> str:
    """Of `repo sign`."""
    said = f"signed: {', '.join(result['signed'])}" if result["signed"] else "nothing was signed"
    return "\n".join([*result["words"], "", *result["signatures"], "", said])


def refresh(result: dict[str, Any]) -> str:
    """Of `repo refresh`."""
    lines = [f"timestamp {result['timestamp']}, snapshot {result['snapshot']}; until {result['expires']}"]
    return "\n".join(lines + [f"warning: {warning}" for warning in result["warnings"]])


def status(result: dict[str, Any]) -> str:
    """Of `repo status`."""
    lines = []
    if result["identity"] is not None:
        kind = "DEVELOPMENT" if result["development"] else "release"
        lines += [f"{result['repository']}: {kind} repository {result['identity'][:16]}, verified", ""]
        lines += _table(["role", "version", "expires", "days", "keys"], [_role(role) for role in result["roles"]])
        lines += ["", *_products(result["products"]), *_models(result["models"])]
    if result["staged"] is not None:
        lines += ["", f"waits for signatures: {result['staged']['title']} ({result['staged']['file']})"]
        lines += [f"  {_threshold(item)}" for item in result["staged"]["thresholds"]]
    return "\n".join(lines + [f"warning: {warning}" for warning in result["warnings"]])


def root(result: dict[str, Any]) -> str:
    """Of `repo root`."""
    return f"{result['file']}: root {result['version']} of {result['of']}"


def serve(result: dict[str, Any]) -> str:
    """Of `repo serve`, when it ends."""
    return f"{result['address']} is no longer served"


def _role(role: dict[str, Any]) -> list[str]:
    names = ", ".join(item["holder"] for item in role["keys"])
    where = "online" if role["online"] else "offline"
    days = "LAPSED" if role["lapsed"] else str(role["days_left"])
    keys = f"{role['threshold']} of {len(role['keys'])} {where}: {names}"
    return [role["role"], str(role["version"]), role["expires"][:10], days, keys]


def _products(products: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"{item['product']}: latest {item['latest']}, {len(item['versions'])} published, security epoch "
        f"{item['security_epoch']}{', DEVELOPMENT' if item['development'] else ''}, root hash {item['root_hash']}"
        for item in products
    ] or ["no product is published"]


def _models(models: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"model {item['model']}: latest {item['latest']}, {len(item['versions'])} published, for "
        f"{', '.join(f'{product} from {oldest} on' for product, oldest in item['products'].items())}"
        f"{', DEVELOPMENT' if item['development'] else ''}, {item['bytes']} bytes, sha256 {item['sha256']}"
        for item in models
    ]


def _threshold(item: dict[str, Any]) -> str:
    line = f"{item['role']}: {len(item['signed'])} of {item['threshold']} signatures"
    if item["signed"]:
        line += f", signed by {', '.join(item['signed'])}"
    return line + (f"; {item['missing']} missing, not signed: {', '.join(item['unsigned'])}" if item["missing"] else "")


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
