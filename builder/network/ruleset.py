"""Conduits → one nftables ruleset. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from builder.profile.types import Conduit, Profile

PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17}


def compile_ruleset(profile: Profile, *, uids: dict[str, int]) -> bytes:
    """The ruleset of a profile. uids: numeric user of each service that a conduit names."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  nftables syntax, not HTML
    )
    rows = [_row(conduit, uids) for conduit in profile.network.conduits]
    return environment.get_template("nftables.conf.j2").render(profile=profile.name, conduits=rows).encode()


def _row(conduit: Conduit, uids: dict[str, int]) -> dict[str, Any]:
    return {
        "id": conduit.id,
        "interface": conduit.interface,
        "peer": conduit.peer,
        "ports": sorted(conduit.ports),
        "protocol_number": PROTOCOL_NUMBERS[conduit.protocol],
        "uid": uids[conduit.service],
    }
