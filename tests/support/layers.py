"""The architecture as a table, and the reader that holds source code against it. Used by tests/unit/test_layers.py.

The table is DESIGN.md section 3. What it cannot say with packages (who may start a process, ask for the time, read
YAML) are doors: a thing that only the named modules do.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

SERVICES = (
    "agent",
    "audit",
    "export",
    "fleetview",
    "health",
    "inference",
    "network",
    "recovery",
    "uplink",
    "update",
    "usb",
    "watch",
)

SERVICE_LIBRARIES: dict[str, frozenset[str]] = {
    "audit": frozenset({"cryptography"}),
    "fleetview": frozenset({"osquery"}),
    "inference": frozenset({"onnxruntime"}),
    "network": frozenset({"nftables"}),
    "recovery": frozenset({"cryptography"}),
    "uplink": frozenset({"cryptography", "google", "paho", "zstandard"}),  # google: protobuf, for Sparkplug
    "update": frozenset({"tuf", "urllib3"}),
}
"""The services' own libraries; each is imported by one module of the service."""

ARRAYS = "numpy"
"""What images are in memory: every module of the inference service may use it."""

DEVICE_EYES = (("builder.publish.deviceview", "appliance.update"),)
"""An approver, and whoever checks a medium, see a repository exactly as a device does: by its code, not by a copy."""

PURE = (
    "appliance.core.*",
    "appliance.formats.*",
    "builder.audit.*",
    "builder.boot.cmdline",
    "builder.boot.cpio",
    "builder.disk.layout",
    "builder.lock.codec",
    "builder.lock.requests",
    "builder.lock.types",
    "builder.network.*",
    "builder.publish.policy*",
    "builder.publish.windows",
    "builder.profile.[!l]*",
    "builder.rootfs.elf",
    "builder.rootfs.entries",
    "builder.signing.asn1",
    "builder.signing.authenticode",
    "builder.signing.cms",
    "builder.signing.pe",
    "builder.uplink.[ilpruw]*",
    "builder.uplink.tally",
)
"""Rules without effects: they never import builder.host. (builder.profile.load is the one that reads a file.)"""


GUESTS = ("builder.host.nftguest", "builder.rootfs.pycompile")
"""Scripts that run alone inside a sandbox: the standard library and nothing of ours; no doors there."""


@dataclass(frozen=True)
class Door:
    """Something that only `modules` do. names: imports and attribute chains that do it, as patterns."""

    what: str
    names: tuple[str, ...]
    modules: tuple[str, ...]


DOORS = (
    Door(
        "start a process",
        ("subprocess", "multiprocessing", "os.exec*", "os.posix_spawn*", "os.fork*", "os.system", "os.popen", "pty"),
        ("builder.host.*", "appliance.machine.exec"),
    ),
    Door("read YAML", ("yaml",), ("builder.profile.document",)),
    Door(
        "ask for the time of day",
        ("time.time", "time.time_ns", "time.localtime", "time.gmtime", "datetime.now", "datetime.utcnow", "date.today"),
        ("builder.cli.*", "appliance.machine.clock"),
    ),
    Door(
        "throw dice",
        ("random", "uuid.uuid1", "uuid.uuid4"),
        ("appliance.uplink.*", "appliance.update.service", "builder.vm.*"),
    ),
    # The test agent is root by design, and in no release image.
    Door("run data as code", ("pickle", "marshal", "shelve", "eval", "exec", "compile"), ("appliance.agent.requests",)),
    Door("print", ("print",), ("builder.cli.main", "appliance.machine.notify")),
    Door(
        "end the program", ("sys.exit", "os._exit"), ("builder.cli.main", "appliance.*.__main__", "appliance.machine.*")
    ),
    Door(
        "speak HTTP",
        ("urllib.request", "http.client", "requests", "httpx", "urllib3"),
        ("builder.host.*", "appliance.update.http"),
    ),
)


@dataclass(frozen=True)
class Use:
    """An import or a name that a module uses. first_level: when the module is loaded, not in a function of it."""

    name: str
    line: int
    is_import: bool
    first_level: bool


def read_tree(root: Path) -> dict[str, str]:
    """module name -> source, of appliance/ and builder/ below `root`."""
    found = {}
    for package in ("appliance", "builder"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def violations(sources: Mapping[str, str]) -> list[str]:
    """Everything in `sources` that the table forbids, as `module:line: what`."""
    uses = {module: tuple(_uses(source)) for module, source in sources.items()}
    found = [
        f"{module}:{use.line}: {fault}"
        for module, used in uses.items()
        for use in used
        for fault in (*_import_faults(module, use), *_door_faults(module, use))
    ]
    return found + list(_library_faults(uses)) + list(_cycles(uses))


def _uses(source: str) -> Iterator[Use]:
    for node, first_level in _nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Use(alias.name, node.lineno, True, first_level) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Use(node.module or "", node.lineno, True, first_level)
            yield from (Use(f"{node.module}.{alias.name}", node.lineno, False, first_level) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield Use(ast.unparse(node), node.lineno, False, first_level)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield Use(node.func.id, node.lineno, False, first_level)


def _nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """(node, whether it runs when the module is loaded), each once."""
    waiting = [(tree, True)]
    while waiting:
        node, first_level = waiting.pop()
        first_level = first_level and not _is_later(node)
        yield node, first_level
        waiting.extend((child, first_level) for child in ast.iter_child_nodes(node))


def _is_later(node: ast.AST) -> bool:
    """What is in here does not run when the module is loaded."""
    types_only = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    return types_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _import_faults(module: str, use: Use) -> Iterator[str]:
    if not use.is_import:
        return
    if module in GUESTS:
        if use.name.split(".")[0] not in sys.stdlib_module_names:
            yield f"{module} runs alone in a sandbox and may not import {use.name}"
        return
    if use.name.split(".")[0] not in ("appliance", "builder"):
        if module.startswith("appliance.") and not _library_allowed(module, use.name):
            yield f"{_part(module)} may not import {use.name}"
        return
    if not _layer_allowed(module, use.name):
        yield f"{_part(module)} may not import {use.name}"
    if _matches(module, PURE) and use.name.startswith("builder.host"):
        yield f"{module} is pure and may not import {use.name}"


def _layer_allowed(module: str, name: str) -> bool:
    if (module, _part(name)) in DEVICE_EYES:
        return True
    if module.startswith("builder"):
        return name.startswith("builder") or _matches(name, ("appliance.core*", "appliance.formats*"))
    below = {
        "appliance.core": ("appliance.core",),
        "appliance.formats": ("appliance.core", "appliance.formats"),
    }.get(_part(module), ("appliance.core", "appliance.formats", "appliance.machine", _part(module)))
    return _part(name) in below


def _library_allowed(module: str, name: str) -> bool:
    library, part = name.split(".")[0], _part(module)
    if library in sys.stdlib_module_names:
        return True
    if part == "appliance.formats":
        return library == "msgspec"
    service = part.removeprefix("appliance.")
    return library in SERVICE_LIBRARIES.get(service, ()) or (service == "inference" and library == ARRAYS)


def _library_faults(uses: Mapping[str, tuple[Use, ...]]) -> Iterator[str]:
    for service, libraries in SERVICE_LIBRARIES.items():
        for library in sorted(libraries):
            users = sorted(
                module
                for module, used in uses.items()
                if _part(module) == f"appliance.{service}"
                and any(use.is_import and use.name.split(".")[0] == library for use in used)
            )
            if len(users) > 1:
                yield f"{library} is imported by {' and '.join(users)}, one module holds a library"


def _door_faults(module: str, use: Use) -> Iterator[str]:
    for door in _doors(use.name) if module not in GUESTS else ():
        if not _matches(module, door.modules):
            yield f"{use.name}: only {' and '.join(door.modules)} may {door.what}"


@functools.cache
def _doors(used: str) -> tuple[Door, ...]:
    """Those that this import or name goes through."""

    def through(name: str) -> bool:
        hit = fnmatchcase(used, name) or used.startswith(f"{name}.")
        return hit or ("." in name and used.endswith(f".{name}"))

    return tuple(door for door in DOORS if any(map(through, door.names)))


def _cycles(uses: Mapping[str, tuple[Use, ...]]) -> Iterator[str]:
    """Modules that import each other when they are loaded."""
    graph = {
        module: sorted(
            {name for use in used if use.first_level and (name := _module_of(use.name, uses)) and name != module}
        )
        for module, used in uses.items()
    }
    done: set[str] = set()
    for start in graph:
        yield from _walk(start, (), graph, done)


def _walk(module: str, way: tuple[str, ...], graph: Mapping[str, list[str]], done: set[str]) -> Iterator[str]:
    if module in way:
        yield f"import cycle: {' -> '.join((*way[way.index(module) :], module))}"
    elif module not in done:
        for name in graph[module]:
            yield from _walk(name, (*way, module), graph, done)
        done.add(module)


def _module_of(name: str, known: Mapping[str, object]) -> str | None:
    return name if name in known and "." in name else None


def _part(module: str) -> str:
    """`appliance.uplink` of `appliance.uplink.outbox`."""
    return ".".join(module.split(".")[:2])


def _matches(module: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(module, pattern) for pattern in patterns)
