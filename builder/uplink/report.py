"""A proof of what can leave, as data, text, Markdown and HTML. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from appliance.formats.uplink_envelope import ENVELOPE_BYTES
from builder.uplink.leaves import leaves_of
from builder.uplink.payloads import ENVELOPE, EYES, MEANINGS
from builder.uplink.picture import draw, thousands
from builder.uplink.prove import Exit, Proof, capacity, free_text

_COLUMNS = ("topic", "lane", "from", "field", "form", "bytes", "meaning")


def proof_data(proof: Proof) -> dict[str, Any]:
    """Everything, as --json prints it."""
    return {
        "profile": proof.profile,
        "holds": proof.holds,
        "raw_frames": False,
        "frame_bytes": proof.frame_bytes,
        "bytes_per_second": proof.rate,
        "conduits": [_conduit(each) for each in proof.conduits],
        "other_conduits": [_conduit(each) for each in proof.others],
        "envelope": [_leaf(ENVELOPE, leaf) for leaf in leaves_of(ENVELOPE)],
        "envelope_bytes": ENVELOPE_BYTES,
        "kinds": [_exit(each) for each in proof.exits],
        "session": [{"topic": topic, "field": field, "form": form} for topic, field, form in proof.session],
        "findings": [{"kind": each.kind, "field": each.field, "text": each.text} for each in proof.findings],
    }


def _conduit(conduit: Any) -> dict[str, Any]:
    return {
        "id": conduit.id,
        "from": conduit.from_zone,
        "to": conduit.to_zone,
        "service": conduit.service,
        "encryption": conduit.encryption,
        "authentication": conduit.authentication,
        "packets_per_second": conduit.rate.packets,
        "data": conduit.data,
    }


def _exit(exit_: Exit) -> dict[str, Any]:
    payload = exit_.payload
    return {
        "kind": payload.kind,
        "what": payload.what,
        "topics": list(exit_.topics),
        "lanes": list(payload.lanes),
        "services": list(payload.senders),
        "body_bytes": payload.limit,
        "message_bytes": exit_.most,
        "free_text_bytes": free_text(payload.leaves),
        "capacity_bytes": capacity(payload),
        "fields": [_leaf(payload.of, leaf) for leaf in payload.leaves],
    }


def _leaf(of: type, leaf: Any) -> dict[str, Any]:
    return {
        "path": leaf.path,
        "form": leaf.form,
        "bytes": leaf.bound,
        "opaque": leaf.opaque,
        "meaning": MEANINGS.get((of, leaf.path), ""),
    }


def as_text(data: dict[str, Any]) -> str:
    """For a terminal, without a final newline."""
    lines = []
    for kind in data["kinds"]:
        lanes = " and ".join(kind["lanes"]) or "at once"
        lines.append(f"{kind['kind']}: {kind['what']}, from {', '.join(kind['services'])}; lane {lanes}")
        lines += [f"  {topic}" for topic in kind["topics"]]
        lines += [f"  {text}" for text in _table([_cells(leaf, kind) for leaf in kind["fields"]])]
        lines.append("")
    for each in data["session"]:
        lines.append(f"Sparkplug's session: {each['topic']}: {each['field']}, {each['form']}")
    for each in data["conduits"]:
        lines.append(f"conduit {each['id']}: {each['to']}, {each['encryption']}, {each['authentication']}")
    for each in data["other_conduits"]:
        lines.append(f"not by the uplink: conduit {each['id']}, service {each['service']}: {each['data']}")
    for finding in data["findings"]:
        lines.append(
            f"finding: {finding['kind']}{'.' if finding['field'] else ''}{finding['field']}: {finding['text']}"
        )
    return "\n".join((*lines, *sentences(data)))


def sentences(data: dict[str, Any]) -> Iterator[str]:
    """What is shown, in sentences."""
    fields = sum(len(kind["fields"]) for kind in data["kinds"])
    largest = max(kind["body_bytes"] for kind in data["kinds"])
    yield (
        f"{data['profile']}: {len(data['kinds'])} kinds of message, {fields} fields; the largest body has "
        f"{thousands(largest)} bytes, its conduits carry at most {thousands(data['bytes_per_second'])} a second"
    )
    if not data["holds"]:
        yield f"{len(data['findings'])} findings: a raw frame or a raw window could leave"
        return
    seen = [kind for kind in data["kinds"] if EYES in kind["services"]]
    hidden = max(kind["capacity_bytes"] for kind in seen)
    yield (
        f"no raw frame ({thousands(data['frame_bytes'])} bytes) and no raw window can leave: no kind is for them, "
        f"no conduit adds one, and nothing that {EYES} may say has room for one"
    )
    yield (
        f"what a taken-over {EYES} service could hide in the values of its fields: at most {thousands(hidden)} bytes a "
        f"message, so a frame would need {thousands(-(-data['frame_bytes'] // hidden))} messages that are all accepted"
    )


def _cells(leaf: dict[str, Any], kind: dict[str, Any]) -> tuple[str, ...]:
    return (leaf["path"], leaf["form"], bytes_words(leaf, kind), leaf["meaning"])


def bytes_words(leaf: dict[str, Any], kind: dict[str, Any]) -> str:
    """The bound of a field: its own, or its body's where that is smaller."""
    if leaf["bytes"] is None:
        return "no bound"
    return f"≤ {thousands(min(leaf['bytes'], kind['body_bytes']))}"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rows(data: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for kind in data["kinds"]:
        for leaf in kind["fields"]:
            yield (
                ", ".join(kind["topics"]),
                ", ".join(kind["lanes"]) or "at once",
                ", ".join(kind["services"]),
                leaf["path"],
                leaf["form"],
                bytes_words(leaf, kind),
                leaf["meaning"],
            )


def as_markdown(data: dict[str, Any]) -> str:
    """One table of every field, for a review."""
    head = f"# What can leave {data['profile']}\n\n" + "\n".join(f"- {line}" for line in sentences(data)) + "\n\n"
    table = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}\n"
    rows = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in _rows(data))
    return head + table + "".join(rows)


def as_html(proof: Proof) -> str:
    """One page: the picture, the sentences and the table."""
    data = proof_data(proof)
    said = "".join(f"<li>{html.escape(line)}</li>\n" for line in sentences(data))
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in _rows(data))
    title = html.escape(f"What can leave {proof.profile}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n<style>'
        "body{font-family:sans-serif;margin:2em;max-width:90em}table{border-collapse:collapse}"
        "td,th{border:1px solid #54617a;padding:.3em .6em;text-align:left;vertical-align:top}</style></head>\n"
        f"<body><h1>{title}</h1>\n{draw(proof)}<ul>\n{said}</ul>\n<table><thead><tr>{head}</tr></thead><tbody>\n"
        f"{rows}</tbody></table></body></html>\n"
    )
