"""`edgeseal uplink prove`: every field that can leave a site.

`PROVE` and `SCHEMA` are the commands; builder/cli/uplink.py lists them. How-to: docs/how-to/watch-the-uplink.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from appliance.core.durable import write_durable
from appliance.core.errors import InputError, Place
from appliance.formats.device import Namespace
from appliance.formats.uplink_namespace import decode_namespace
from builder.cli.command import Command
from builder.profile.load import load_profile
from builder.uplink.payloads import payloads
from builder.uplink.picture import draw
from builder.uplink.prove import prove
from builder.uplink.report import as_html, as_markdown, as_text, proof_data
from builder.uplink.schema import uplink_schema


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a profile, by name or by path")
    parser.add_argument("--namespace", type=Path, metavar="FILE", help="the site's credential edgeseal.namespace")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw it")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write one table of all fields")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page with picture and table")


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    profile = load_profile(arguments.profile)
    proof = prove(profile, payloads(), _namespace(arguments.namespace) or profile.uplink.namespace)
    data = proof_data(proof)
    if arguments.svg is not None:
        write_durable(arguments.svg, draw(proof).encode())
    if arguments.markdown is not None:
        write_durable(arguments.markdown, as_markdown(data).encode())
    if arguments.html is not None:
        write_durable(arguments.html, as_html(proof).encode())
    return data


def _namespace(path: Path | None) -> Namespace | None:
    try:
        return None if path is None else decode_namespace(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot read the namespace: {reason}", place=Place(str(path)), hint="give a file") from error


PROVE = Command(
    path=("uplink", "prove"),
    help="list every field that can leave the site, and show that no raw frame can; exits 1 when one could",
    arguments=_arguments,
    execute=_execute,
    render=as_text,
    exit_code=lambda result: 0 if result["holds"] else 1,
)

SCHEMA = Command(
    path=("uplink", "schema"),
    help="print the JSON schema of every message that a device publishes",
    arguments=lambda _parser: None,
    execute=lambda _arguments: uplink_schema(),
    render=lambda schema: json.dumps(schema, indent=2, ensure_ascii=False),
)
