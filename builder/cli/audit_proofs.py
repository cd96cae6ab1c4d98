"""edgeseal audit prove, check-proof and diff: about one entry, or two copies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from appliance.core.durable import write_durable
from appliance.core.errors import InputError, Place
from appliance.formats.audit_log import decode_entry
from appliance.formats.signed_note import Verified
from appliance.formats.tlog_proof import MAX_PROOF_BYTES, decode_proof, encode_proof
from builder.audit.proofs import check_proof, compare, prove_entry
from builder.audit.read import read_entries
from builder.audit.timeline import Choice, Shown, chosen, entry_data, sentence
from builder.cli.audit_keys import key_arguments, read_keys
from builder.cli.command import Command


def signature_data(verified: Verified) -> dict[str, Any]:
    """As --json prints it."""
    key = verified.key
    return {"name": key.name, "key_id": key.key_id.hex(), "type": key.kind, "time": verified.timestamp}


def read_file(path: Path, limit: int = 1 << 20) -> bytes:
    """At most `limit` bytes. Raises InputError."""
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise InputError(f"cannot be read: {(error.strerror or str(error)).lower()}", place=Place(str(path))) from error


def _prove_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="a log as C2SP tlog-tiles")
    parser.add_argument("index", metavar="N", type=int, help="index of the entry")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: entry-N.tlog-proof in this directory")


def _prove(arguments: argparse.Namespace) -> dict[str, Any]:
    proof = prove_entry(arguments.directory, arguments.index)
    out = arguments.out or Path(f"entry-{arguments.index}.tlog-proof")
    write_durable(out, encode_proof(proof))
    return {"written": str(out), "index": proof.index, "hashes": len(proof.hashes)}


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a C2SP tlog-proof")
    key_arguments(parser)
    parser.add_argument("--entry", metavar="FILE", type=Path, help="the entry, where the proof does not hold it")


def _check(arguments: argparse.Namespace) -> dict[str, Any]:
    keys, policy = read_keys(arguments)
    proof = decode_proof(read_file(arguments.file, MAX_PROOF_BYTES + 1))
    given = None if arguments.entry is None else read_file(arguments.entry)
    data, checkpoint, opened = check_proof(proof, given, keys, policy)
    entry = decode_entry(data, index=proof.index)
    return {
        "file": str(arguments.file),
        "origin": checkpoint.origin,
        "index": proof.index,
        "size": checkpoint.size,
        "signatures": [signature_data(verified) for verified in opened.verified],
        "entry": entry_data(Shown(entry, None)),
        "sentence": sentence(entry.event),
    }


def _render_check(result: dict[str, Any]) -> str:
    signers = ", ".join(f"{one['name']}+{one['key_id']}" for one in result["signatures"])
    where = f"entry {result['index']} of {result['size']} of {result['origin']}"
    return f"verified: {where}, signed by {signers}\n{result['sentence']}"


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", type=Path, help="a log's directory, or a file with its checkpoint")
    parser.add_argument("new", metavar="NEW", type=Path, help="the same log later, or another copy")


def _diff(arguments: argparse.Namespace) -> dict[str, Any]:
    found = compare(arguments.old, arguments.new)
    added: list[dict[str, Any]] = []
    if found.kind == "grown" and arguments.new.is_dir():
        later = read_entries(arguments.new, start=found.sizes[0])
        added = [entry_data(one) for one in chosen(later, Choice())]
    return {
        "kind": found.kind,
        "ok": found.ok,
        "origins": list(found.origins),
        "sizes": list(found.sizes),
        "fork": found.fork,
        "detail": found.detail,
        "added": added,
    }


def _render_diff(result: dict[str, Any]) -> str:
    old, new = result["sizes"]
    said = {
        "same": f"the same log of {old} entries",
        "grown": f"consistent: {new - old} entries were added to {old}",
        "smaller": f"NOT grown: the new one has {new} entries, the old one {old}; it was cut or is an old copy",
        "forked": f"FORK: two histories of one log, {old} and {new} entries",
        "another-log": f"two logs: {' and '.join(result['origins'])}",
        "unknown": "cannot be told",
    }[result["kind"]]
    lines = [said + (f": {result['detail']}" if result["detail"] else "")]
    if result["fork"] is not None:
        lines.append(f"the first entry that is not the same: {result['fork']}")
    return "\n".join(lines + [f"+ {one['index']} {one['sentence']}" for one in result["added"]])


PROOFS = (
    Command(
        path=("audit", "prove"),
        help="prove that an entry is in a log, as a file for offline use (C2SP tlog-proof)",
        arguments=_prove_arguments,
        execute=_prove,
        render=lambda result: str(result["written"]),
    ),
    Command(
        path=("audit", "check-proof"),
        help="check such a proof from the log's public key alone",
        arguments=_check_arguments,
        execute=_check,
        render=_render_check,
    ),
    Command(
        path=("audit", "diff"),
        help="compare two copies or checkpoints of a log: grown, cut or forked, where, and what was added",
        arguments=_diff_arguments,
        execute=_diff,
        render=_render_diff,
        exit_code=lambda result: 0 if result["ok"] else 1,
    ),
)
