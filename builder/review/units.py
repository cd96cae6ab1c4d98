"""systemd units of an image, as its manager will read them: files, drop-ins, links, and what a boot pulls in.

Pure: works on a mapping of paths to text. Follows systemd.unit(5) as far as a sealed image needs it: /etc before
/usr/lib, drop-ins by file name, an empty assignment resets a list, a link to /dev/null masks, templates
have instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system")
_STARTS = ("Wants", "Requires", "BindsTo", "Upholds", "Requisite", "OnFailure")
_LISTENS = ("ListenStream", "ListenDatagram", "ListenSequentialPacket", "ListenNetlink", "ListenFIFO", "ListenSpecial")
_TRIGGERS = {".timer": ".service", ".path": ".service", ".socket": ".service"}
_ALWAYS = ("default.target", "sysinit.target", "basic.target", "sockets.target", "timers.target", "paths.target")


@dataclass(frozen=True)
class Unit:
    """One unit. settings: (section, key) -> values, in order, after drop-ins; files: where they came from."""

    name: str
    files: tuple[str, ...]
    settings: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    def values(self, section: str, key: str) -> tuple[str, ...]:
        """All assignments that hold."""
        return self.settings.get((section, key), ())

    def last(self, section: str, key: str) -> str | None:
        """The last one, for keys that are no lists."""
        values = self.values(section, key)
        return values[-1] if values else None

    def words(self, section: str, key: str) -> list[str]:
        """All words of all assignments."""
        return [word for value in self.values(section, key) for word in value.split()]


class UnitSet:
    """The units of one image. files: absolute path -> text; links: absolute path -> target as stored."""

    def __init__(self, files: Mapping[str, str], links: Mapping[str, str]) -> None:
        self._files = {path: text for path, text in files.items() if path.startswith(DIRECTORIES)}
        self._links = {path: target for path, target in links.items() if path.startswith(DIRECTORIES)}

    def names(self) -> list[str]:
        """Every unit file, templates and links to other units included, sorted."""
        paths = [*self._files, *self._links]
        return sorted({name for path in paths for folder, _, name in [path.rpartition("/")] if folder in DIRECTORIES})

    def masked(self) -> list[str]:
        """Units that can never start."""
        return [name for name in self.names() if self._resolve(name) == "/dev/null"]

    def load(self, name: str) -> Unit | None:
        """The unit, drop-ins applied; None when there is no file for it or it is masked."""
        main = self._resolve(name)
        if main is None or main == "/dev/null":
            return None
        paths = [main, *self._drop_ins(name, main.rpartition("/")[2])]
        settings: dict[tuple[str, str], tuple[str, ...]] = {}
        for path in paths:
            for section, key, value in _assignments(self._files[path]):
                settings[section, key] = (*settings.get((section, key), ()), value) if value else ()
        return Unit(name, tuple(paths), settings)

    def started_at_boot(self) -> dict[str, str]:
        """Unit -> the unit that pulls it in, for everything between power-on and default.target.

        Units that a socket, timer or path starts are in it too, pulled in by that.
        """
        found: dict[str, str] = dict.fromkeys(_ALWAYS, "boot")
        queue = list(_ALWAYS)
        while queue:
            name = queue.pop()
            for other in sorted(self._pulled_in_by(name)):
                if other not in found and self.load(other) is not None:
                    found[other] = name
                    queue.append(other)
        return {name: by for name, by in sorted(found.items()) if self.load(name) is not None}

    def _pulled_in_by(self, name: str) -> Iterator[str]:
        unit = self.load(name)
        if unit is None:
            return
        if (real := unit.files[0].rpartition("/")[2]) not in (name, _template(name)):
            yield real
        for key in _STARTS:
            yield from (_instance(word, name) for word in unit.words("Unit", key))
        for holder in {name, _template(name) or name}:
            yield from (_instance(link, name) for link in self._linked(holder))
        stem, dot, suffix = name.rpartition(".")
        if dot + suffix in _TRIGGERS:
            section = suffix.capitalize()
            default = f"{stem}@.service" if unit.last("Socket", "Accept") == "yes" else f"{stem}.service"
            yield unit.last(section, "Service" if suffix == "socket" else "Unit") or default

    def _linked(self, name: str) -> Iterator[str]:
        for path in (*self._links, *self._files):
            folder, _, link = path.rpartition("/")
            base, _, holder = folder.rpartition("/")
            if base in DIRECTORIES and holder in (f"{name}.wants", f"{name}.requires", f"{name}.upholds"):
                yield link

    def _resolve(self, name: str) -> str | None:
        """The path of the file behind a unit name, `/dev/null` when it is masked."""
        for candidate in (name, _template(name)):
            for directory in DIRECTORIES if candidate else ():
                path = f"{directory}/{candidate}"
                for _hop in range(8):
                    if path in self._files:
                        return path if self._files[path].strip() or path.startswith("/usr") else "/dev/null"
                    if path not in self._links:
                        break
                    target = self._links[path]
                    if target == "/dev/null":
                        return target
                    path = _join(path, target)
        return None

    def _drop_ins(self, name: str, real: str) -> list[str]:
        suffix = name.rpartition(".")[2]
        holders = [f"{suffix}.d"]
        for one in (_template(name), real, name):
            if one and f"{one}.d" not in holders:
                holders.append(f"{one}.d")
        chosen: dict[str, str] = {}
        for holder in holders:
            for directory in reversed(DIRECTORIES):
                prefix = f"{directory}/{holder}/"
                for path in self._files:
                    if path.startswith(prefix) and path.endswith(".conf"):
                        chosen[path.removeprefix(prefix)] = path
        return [chosen[key] for key in sorted(chosen)]


def listening(unit: Unit) -> Iterator[tuple[str, str, str]]:
    """(kind, address, family) of each socket that a .socket unit opens. family: unix, netlink, inet, vsock, fifo."""
    for key in _LISTENS:
        for address in unit.values("Socket", key):
            yield key.removeprefix("Listen").lower(), address, _family(key, address)


def _family(key: str, address: str) -> str:
    if key == "ListenNetlink":
        return "netlink"
    if key in ("ListenFIFO", "ListenSpecial"):
        return "fifo"
    if address.startswith(("/", "@", "%t/", "%")):
        return "unix"
    return "vsock" if address.startswith("vsock:") else "inet"


def _assignments(text: str) -> Iterable[tuple[str, str, str]]:
    section, joined = "", ""
    for raw in text.splitlines():
        line = raw.strip()
        if not joined and (not line or line[0] in "#;"):
            continue
        if joined and line[:1] in ("#", ";"):
            continue
        line = joined + line
        if line.endswith("\\"):
            joined = line[:-1] + " "
            continue
        joined = ""
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()


def _template(name: str) -> str | None:
    stem, at, rest = name.partition("@")
    suffix = rest.rpartition(".")[2]
    return f"{stem}@.{suffix}" if at and rest != f".{suffix}" else None


def _instance(word: str, holder: str) -> str:
    """`x@%i.service` wanted by `a@b.target` is `x@b.service`."""
    _, at, rest = holder.partition("@")
    return word.replace("%i", rest.rpartition(".")[0]).replace("%I", rest.rpartition(".")[0]) if at else word


def _join(path: str, target: str) -> str:
    if target.startswith("/"):
        return target
    parts = path.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            parts.pop()
        elif part not in (".", ""):
            parts.append(part)
    return "/".join(parts)
