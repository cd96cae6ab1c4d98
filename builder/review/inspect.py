"""What is in an image, for people and for tests: the overview, one path, and the findings."""

from __future__ import annotations

import hashlib
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from appliance.core.errors import InputError
from builder.host.sandbox import Sandbox
from builder.review.erofs import ErofsImage, Node
from builder.review.findings import Finding, file_capabilities, is_program, tree_findings
from builder.review.listing import type_name
from builder.review.manifest import Manifest
from builder.review.opened import OpenedRoot, read_one_file
from builder.review.units import Unit, UnitSet, listening

_MAXIMUM_TEXT = 1 << 20
_EXPOSURE = re.compile(r"Overall exposure level for (\S+): ([0-9]+)\.([0-9])")
_KERNEL_MODULE = re.compile(r"/usr/lib/modules/(?P<version>[^/]+)/.*/(?P<name>[^/]+)\.ko(\.[a-z0-9]+)?")


def overview(root: OpenedRoot, manifest: Manifest | None, tools: Sandbox) -> dict[str, Any]:
    """Everything at once, as plain data. manifest: None for a bare root image."""
    units = unit_set(root)
    started = units.started_at_boot()
    services = [unit for name in started if name.endswith(".service") and (unit := units.load(name))]
    exposure = service_exposure([unit.name for unit in services], root.tree, tools)
    findings = [*tree_findings(root.nodes, root.read), *unit_findings(units, started)]
    regular = {node.nid: node for node in root.nodes if stat.S_ISREG(node.mode)}
    return {
        "image": _image(manifest),
        "files": dict(sorted(Counter(type_name(node.mode) for node in root.nodes).items())),
        "bytes": sum(node.size for node in regular.values()),
        "programs": sorted(node.path for node in root.nodes if is_program(node)),
        "kernel": _kernel(root.nodes),
        "packages": debian_packages(root) + wheels(root),
        "users": _table(root.text("/etc/passwd"), ("name", "", "uid", "gid", "", "home", "shell")),
        "groups": _table(root.text("/etc/group"), ("name", "", "gid", "members")),
        "units": dict(started),
        "masked_units": units.masked(),
        "services": [_service(unit, exposure.get(unit.name)) for unit in services],
        "sockets": [
            {"unit": name, "kind": kind, "address": address, "family": family}
            for name in started
            if name.endswith(".socket") and (unit := units.load(name))
            for kind, address, family in listening(unit)
        ],
        "setuid": [node.path for node in root.nodes if _special(node, stat.S_ISUID)],
        "setgid": [node.path for node in root.nodes if _special(node, stat.S_ISGID)],
        "world_writable": [
            node.path for node in root.nodes if not stat.S_ISLNK(node.mode) and node.mode & stat.S_IWOTH
        ],
        "file_capabilities": {node.path: names for node in root.nodes if (names := file_capabilities(node))},
        "findings": [asdict(finding) for finding in findings if finding.accepted is None],
        "accepted_findings": [asdict(finding) for finding in findings if finding.accepted is not None],
    }


def describe_path(image: Path, path: str, tools: Sandbox) -> dict[str, Any]:
    """One path of a root image: a file with its text, or a directory with its entries. Raises InputError."""
    wanted = "/" + path.strip("/")
    nodes = {node.path: node for node in ErofsImage(image).walk()}
    if wanted not in nodes:
        near = [other for other in nodes if other.rpartition("/")[2] == wanted.rpartition("/")[2]]
        hint = f"did you mean {near[0]}?" if near else f"`edgeseal inspect DIR {_existing_parent(wanted, nodes)}` lists"
        raise InputError(f"{wanted} is not in the image", hint=hint)
    node = nodes[wanted]
    if stat.S_ISDIR(node.mode):
        prefix = wanted.rstrip("/") + "/"
        inside = [other for other in nodes if other.startswith(prefix) and other != "/"]
        entries = [nodes[other] for other in inside if "/" not in other.removeprefix(prefix)]
        return {**_details(node), "entries": [_details(entry) for entry in entries]}
    if not stat.S_ISREG(node.mode):
        return _details(node)
    data = read_one_file(image, wanted, tools)
    return {**_details(node), "sha256": hashlib.sha256(data).hexdigest(), "text": _as_text(data)}


def unit_set(root: OpenedRoot) -> UnitSet:
    """The units of an opened root."""
    files = {
        node.path: root.text(node.path)
        for node in root.nodes
        if stat.S_ISREG(node.mode) and "/systemd/system/" in node.path
    }
    links = {node.path: node.target for node in root.nodes if node.target is not None}
    return UnitSet(files, links)


def service_exposure(names: list[str], tree: Path, tools: Sandbox) -> dict[str, int]:
    """Service -> tenths of systemd-analyze's exposure level (0 to 100), lower is better."""
    concrete = [name for name in names if "@." not in name]
    if not concrete:
        return {}
    said = tools.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--root=/run/image", *concrete],
        reason="judge the sandboxes of the services",
        binds={tree: "/run/image"},
    ).decode(errors="replace")
    return {name: int(whole) * 10 + int(tenth) for name, whole, tenth in _EXPOSURE.findall(said)}


def unit_findings(units: UnitSet, started: Mapping[str, str]) -> Iterator[Finding]:
    """Findings about what a boot starts."""
    for name in started:
        unit = units.load(name)
        if unit is None:
            continue
        if "getty" in name or name.startswith(("debug-shell", "ssh", "rescue.service")):
            yield Finding("login-unit", unit.files[0], f"{name} is started by {started[name]}")
        for _kind, address, family in listening(unit):
            if family == "inet":
                yield Finding("listening-socket", unit.files[0], f"{name} listens on {address}")
        for key in ("ExecStart", "ExecStartPre", "ExecStartPost"):
            for line in unit.values("Service", key):
                if re.match(r"[-@:+!|]*(/usr)?/bin/(ba|da)?sh\b", line):
                    yield Finding("shell-unit", unit.files[0], f"{key}={line}")


def debian_packages(root: OpenedRoot) -> list[dict[str, str]]:
    """What the dpkg status of the image names, wherever it stands."""
    for place in ("/var/lib/dpkg/status", "/usr/lib/dpkg/status", "/usr/lib/edgeseal/dpkg-status"):
        if text := root.text(place):
            stanzas = [dict(_fields(stanza)) for stanza in text.split("\n\n") if stanza.strip()]
            return [
                {
                    "type": "deb",
                    "name": item["Package"],
                    "version": item["Version"],
                    "architecture": item["Architecture"],
                }
                for item in stanzas
            ]
    return []


def wheels(root: OpenedRoot) -> list[dict[str, str]]:
    """Python distributions by their .dist-info directories."""
    found = []
    for node in root.nodes:
        if node.path.endswith(".dist-info/METADATA"):
            fields = dict(_fields(root.text(node.path).split("\n\n", 1)[0]))
            found.append({"type": "wheel", "name": fields.get("Name", ""), "version": fields.get("Version", "")})
    return found


def _service(unit: Unit, exposure: int | None) -> dict[str, Any]:
    return {
        "unit": unit.name,
        "user": unit.last("Service", "User")
        or ("(dynamic)" if unit.last("Service", "DynamicUser") == "yes" else "root"),
        "exec": list(unit.values("Service", "ExecStart")),
        "exposure_tenths": exposure,
        "capability_bounding_set": unit.words("Service", "CapabilityBoundingSet")
        if unit.values("Service", "CapabilityBoundingSet")
        else (["(none)"] if ("Service", "CapabilityBoundingSet") in unit.settings else ["(all)"]),
        "ambient_capabilities": unit.words("Service", "AmbientCapabilities"),
    }


def _image(manifest: Manifest | None) -> dict[str, Any] | None:
    if manifest is None:
        return None
    return {
        "product": manifest.product,
        "profile": manifest.profile,
        "version": manifest.version,
        "architecture": manifest.architecture,
        "development": manifest.development,
        "root_hash": manifest.root_hash,
        "command_line": manifest.command_line.split(),
        "partitions": {item.label: item.size for item in manifest.partitions},
        "sizes": {name: record.size for name, record in sorted(manifest.files.items())},
    }


def _kernel(nodes: tuple[Node, ...]) -> dict[str, Any]:
    found = [match for node in nodes if (match := _KERNEL_MODULE.fullmatch(node.path))]
    return {
        "versions": sorted({match["version"] for match in found}),
        "modules": sorted({match["name"] for match in found}),
    }


def _details(node: Node) -> dict[str, Any]:
    return {
        "path": node.path,
        "type": type_name(node.mode),
        "mode": f"{stat.S_IMODE(node.mode):04o}",
        "owner": f"{node.uid}:{node.gid}",
        "size": node.size,
        "target": node.target,
        "capabilities": file_capabilities(node),
    }


def _special(node: Node, bit: int) -> bool:
    return stat.S_ISREG(node.mode) and bool(node.mode & bit)


def _table(text: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    rows = [line.split(":") for line in text.splitlines() if line.strip()]
    return [{key: value for key, value in zip(columns, row, strict=False) if key} for row in rows]


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for line in stanza.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            yield key, value.strip()


def _as_text(data: bytes) -> str | None:
    if len(data) > _MAXIMUM_TEXT or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _existing_parent(path: str, nodes: Mapping[str, Node]) -> str:
    while path not in nodes:
        path = path.rpartition("/")[0] or "/"
    return path
