"""edgeseal audit witness: be a C2SP witness, or have one cosign a log."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from appliance.core.errors import InputError
from appliance.formats.signed_note import COSIGNATURE, encode_vkey
from builder.audit.crypto import load_witness_key, make_witness_key
from builder.audit.directory import LogDirectory
from builder.audit.submit import submit
from builder.audit.witness import MAX_REQUEST, Witness
from builder.cli.audit_collect import logs_of
from builder.cli.audit_keys import read_vkeys
from builder.cli.command import Command
from builder.host.http import answering_posts, post

_PATH = "/add-checkpoint"


def _key_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="of the witness, like an address without scheme: site.example/w1")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the private key; never overwritten")


def _key(arguments: argparse.Namespace) -> dict[str, Any]:
    key = make_witness_key(arguments.out, arguments.name)
    return {"written": str(arguments.out), "vkey": encode_vkey(key.verifier)}


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="the witness's private key")
    parser.add_argument("--state", metavar="DIR", type=Path, required=True, help="what was cosigned, one file per log")
    parser.add_argument("--vkey", metavar="VKEY", action="append", default=[], help="a log's key, or a file of keys")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default 127.0.0.1")
    parser.add_argument("--port", type=int, default=7380, help="0: any; default 7380")
    parser.add_argument("--for", dest="seconds", metavar="SECONDS", type=float, help="end after this; default: never")


def _serve(arguments: argparse.Namespace) -> dict[str, Any]:
    logs = logs_of(arguments.vkey)
    witness = Witness(load_witness_key(arguments.key), arguments.state, logs)

    def answer(path: str, body: bytes) -> tuple[int, str, bytes]:
        if path != _PATH:
            return 404, "text/plain; charset=utf-8", b"POST /add-checkpoint\n"
        answered = witness.answer(body, now=int(time.time()))
        return answered.status, answered.content_type, answered.body

    with answering_posts(answer, host=arguments.host, port=arguments.port, limit=MAX_REQUEST) as port:
        sys.stderr.write(f"witness {encode_vkey(witness.key.verifier)} on http://{arguments.host}:{port}\n")
        sys.stderr.flush()
        end = None if arguments.seconds is None else time.monotonic() + arguments.seconds
        while end is None or time.monotonic() < end:
            time.sleep(0.2)
    sizes = {origin: known.size if (known := witness.known(origin)) else 0 for origin in sorted(logs)}
    return {"port": port, "sizes": sizes}


def _submit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="a log as C2SP tlog-tiles")
    parser.add_argument("--url", required=True, help="the witness's submission prefix, before /add-checkpoint")
    parser.add_argument("--witness-vkey", metavar="VKEY", action="append", required=True, help="its public key")


def _submit(arguments: argparse.Namespace) -> dict[str, Any]:
    keys = [key for text in arguments.witness_vkey for key in read_vkeys(text)]
    if any(key.kind != COSIGNATURE for key in keys):
        raise InputError("--witness-vkey: not a key for cosignatures (type 0x04)")
    url = arguments.url.rstrip("/") + _PATH
    lines = submit(arguments.directory, keys, lambda body: post(url, body))
    size = LogDirectory(arguments.directory).checkpoint().size
    return {"directory": str(arguments.directory), "size": size, "cosigned_by": [line.name for line in lines]}


WITNESS = (
    Command(
        path=("audit", "witness", "key"),
        help="make a witness's key; the public half is printed",
        arguments=_key_arguments,
        execute=_key,
        render=lambda result: str(result["vkey"]),
    ),
    Command(
        path=("audit", "witness", "serve"),
        help="be a witness for logs of this site (C2SP tlog-witness)",
        arguments=_serve_arguments,
        execute=_serve,
        render=lambda result: "\n".join(f"{origin}: {size}" for origin, size in result["sizes"].items()),
    ),
    Command(
        path=("audit", "witness", "submit"),
        help="have a C2SP witness cosign a log's checkpoint; the cosignature is added to it",
        arguments=_submit_arguments,
        execute=_submit,
        render=lambda result: f"size {result['size']} cosigned by {', '.join(result['cosigned_by'])}",
    ),
)
