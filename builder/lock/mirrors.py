"""Which mirrors serve Debian is the machine's own apt configuration: its sources and its keyrings are asked here.

The machine's package lists are not read: on a fresh machine they are empty. apt fetches the short signed headers
(InRelease) of its sources into a private directory, which takes a second and no root.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from debian.deb822 import Release

from appliance.core.errors import InputError
from builder.host.run import run

_PRINTED = re.compile(r"^'(?P<base>[^']+/)dists/[^']+' (?P<file>\S+)")


@dataclass(frozen=True)
class Mirrors:
    """Base addresses of the distribution's two archives, each ending in a slash."""

    main: str
    security: str


@cache
def machine_mirrors() -> Mirrors:
    """The mirrors that this machine's apt is set up for. Raises InputError when it has none for Debian."""
    with TemporaryDirectory(prefix="edgeseal-apt-") as name:
        state = Path(name)
        (state / "lists/partial").mkdir(parents=True)
        update = ["apt-get", "update", *_private(state)]
        run(update, reason="ask this machine's apt for its mirrors")
        printed = run([*update, "--print-uris"], reason="ask this machine's apt where its mirrors are")
        return choose_mirrors(printed.decode(), state / "lists")


def _private(state: Path) -> list[str]:
    """Options for an apt that has the machine's sources, fetches their headers alone, and keeps them in `state`."""
    settings = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": state,
        "APT::Sandbox::User": "",
        "APT::Update::Post-Invoke-Success": "",
        "Acquire::Retries": 3,
        "Acquire::IndexTargets::deb::Packages::DefaultEnabled": "false",
        "Acquire::IndexTargets::deb::Translations::DefaultEnabled": "false",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def choose_mirrors(printed: str, lists: Path) -> Mirrors:
    """The first source of each archive, by the label in its signed header.

    printed: what `apt-get update --print-uris` says. lists: the directory with the headers.
    Raises InputError when either archive is missing.
    """
    found: dict[str, str] = {}
    for match in filter(None, map(_PRINTED.match, printed.splitlines())):
        header = lists / match["file"]
        if header.exists():
            found.setdefault(Release(header.read_bytes()).get("Label", ""), match["base"])
    if "Debian" not in found or "Debian-Security" not in found:
        raise InputError(
            "this machine's apt knows no Debian mirror, or no security mirror",
            hint="add them to /etc/apt/sources.list.d; `apt-get update` says which of its sources it cannot reach",
        )
    return Mirrors(main=found["Debian"], security=found["Debian-Security"])
