"""edgeseal audit: look at an audit log as a stranger. Reference: docs/reference/audit.md."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.core.durable import write_durable
from appliance.core.errors import InputError
from builder.audit.read import read_entries
from builder.audit.report import render_report
from builder.audit.timeline import Choice, Shown, chosen, entry_data, timeline_text
from builder.audit.verify import Review, verify_log
from builder.cli.audit_collect import COLLECT
from builder.cli.audit_keys import key_arguments, read_keys
from builder.cli.audit_proofs import PROOFS, read_file, signature_data
from builder.cli.audit_witness import WITNESS
from builder.cli.command import Command
from builder.host.progress import step
from builder.host.workers import in_processes, processors

_SMALL = 20_000  # entries; starting processes costs more than they save

# ---- verify


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="a log as C2SP tlog-tiles")
    key_arguments(parser)
    parser.add_argument(
        "--since", metavar="FILE", type=Path, help="a signed checkpoint seen before: it must have grown"
    )


def _verify(arguments: argparse.Namespace) -> dict[str, Any]:
    keys, policy = read_keys(arguments)
    since = None if arguments.since is None else read_file(arguments.since)

    with step(f"verify {arguments.directory}"):
        review = verify_log(
            arguments.directory,
            keys,
            policy,
            since=since,
            run=lambda function, tasks: in_processes(
                function, tasks, jobs=processors() if sum(256 * (t.last - t.first) for t in tasks) > _SMALL else 1
            ),
        )
    return review_data(review, arguments.directory)


def review_data(review: Review, directory: Path) -> dict[str, Any]:
    """As --json prints it."""
    return {
        "directory": str(directory),
        "ok": review.ok,
        "origin": review.origin,
        "size": review.size,
        "root": review.root.hex(),
        "minimum_index": review.minimum,
        "entries": review.entries,
        "boots": None if review.boots is None else list(review.boots),
        "signatures": [signature_data(verified) for verified in review.signers],
        "epochs": [{"epoch": epoch.number, "entry": epoch.index} for epoch in review.epochs],
        "continues": review.previous or None,
        "since": review.since,
        "clock_steps": [{"entry": one.index, "by_us": one.by_us, "over_boot": one.over_boot} for one in review.steps],
        "kinds": dict(sorted(review.kinds.items())),
        "wrong": review.wrong,
        "findings": [finding.data() | {"text": finding.sentence()} for finding in review.findings],
        "remarks": review.remarks,
    }


def _render_verify(result: dict[str, Any]) -> str:
    lines = [f"FAIL  {finding['text']}" for finding in result["findings"]]
    if result["wrong"] > len(result["findings"]):
        lines.append(f"FAIL  and {result['wrong'] - len(result['findings'])} more")
    if result["signatures"]:
        lines += _summary(result)
    lines += [f"note  {remark}" for remark in result["remarks"]]
    verdict = "verified" if result["ok"] else f"NOT verified: {result['wrong']} findings"
    return "\n".join([*lines, "", f"{result['directory']}: {verdict}"])


def _summary(result: dict[str, Any]) -> list[str]:
    first = result["minimum_index"]
    lines = [
        f"log   {result['origin']}",
        f"tree  {result['size']} entries, root {result['root']}",
        f"read  {result['entries']} entries, from {first} on",
    ]
    for signature in result["signatures"]:
        witnessed = f", a witness, at {_moment(signature['time'])}" if signature["time"] is not None else ""
        lines.append(f"sign  {signature['name']}+{signature['key_id']}{witnessed}")
    if result["epochs"]:
        lines.append(
            f"keys  epochs {result['epochs'][0]['epoch']} to {result['epochs'][-1]['epoch']}, handed over in order"
        )
    if result["boots"]:
        lines.append(f"boot  {result['boots'][0]} to {result['boots'][1]}")
    if result["since"] is not None:
        lines.append(f"grew  since size {result['since']}")
    if result["clock_steps"]:
        shown = ", ".join(str(one["entry"]) for one in result["clock_steps"][:10])
        lines.append(f"time  the wall clock was moved {len(result['clock_steps'])} times, before entry {shown}")
    return lines


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


# ---- show and report


def _choice_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="a log as C2SP tlog-tiles; it is not verified here")
    parser.add_argument("--from", dest="start", metavar="TIME", help="from this time on, ISO 8601, UTC by default")
    parser.add_argument("--to", dest="end", metavar="TIME", help="before this time")
    parser.add_argument("--boot", metavar="N", type=int, help="of this boot")
    parser.add_argument(
        "--kind", metavar="KIND", action="append", default=[], help="of this kind; update-* is a pattern"
    )
    parser.add_argument("--category", metavar="CATEGORY", help="of this category of IEC 62443-4-2 CR 2.8")
    parser.add_argument("--transaction", metavar="ID", help="of this transaction: 16 hex digits of an update")
    parser.add_argument("--service", metavar="UNIT", help="sent by this unit, such as edgeseal-update")


def _shown(arguments: argparse.Namespace) -> list[Shown]:
    choice = Choice(
        from_us=_time(arguments.start, "--from"),
        to_us=_time(arguments.end, "--to"),
        boot=arguments.boot,
        kinds=tuple(arguments.kind),
        category=arguments.category,
        transaction=arguments.transaction,
        service=arguments.service,
    )
    return list(chosen(read_entries(arguments.directory), choice))


def _time(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option}: `{text}` is not a time", hint="write 2026-02-13T16:00:00Z") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _show(arguments: argparse.Namespace) -> dict[str, Any]:
    shown = _shown(arguments)
    if arguments.json:
        return {"directory": str(arguments.directory), "entries": [entry_data(one) for one in shown]}
    return {"text": timeline_text(shown)}


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    _choice_arguments(parser)
    key_arguments(parser, required=False)
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the page to write, HTML")


def _report(arguments: argparse.Namespace) -> dict[str, Any]:
    review = None
    if arguments.vkey or arguments.policy:
        keys, policy = read_keys(arguments)
        review = verify_log(arguments.directory, keys, policy, since=None)
    shown = _shown(arguments)
    write_durable(arguments.out, render_report(shown, review, directory=str(arguments.directory)).encode())
    verified = None if review is None else review.ok
    return {"written": str(arguments.out), "entries": len(shown), "verified": verified}


COMMANDS = (
    Command(
        path=("audit", "verify"),
        help="verify a whole audit log: entries, tree, signatures, epochs of keys, witnesses",
        arguments=_verify_arguments,
        execute=_verify,
        render=_render_verify,
        exit_code=lambda result: 0 if result["ok"] else 1,
    ),
    Command(
        path=("audit", "show"),
        help="show what an audit log says, as a timeline",
        arguments=_choice_arguments,
        execute=_show,
        render=lambda result: str(result["text"]),
    ),
    Command(
        path=("audit", "report"),
        help="write what an audit log says as a page with a picture of its time",
        arguments=_report_arguments,
        execute=_report,
        render=lambda result: str(result["written"]),
        exit_code=lambda result: 1 if result["verified"] is False else 0,
    ),
    *PROOFS,
    *COLLECT,
    *WITNESS,
)
