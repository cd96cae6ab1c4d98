"""The log leaves the device: parts over the uplink's socket, over refusals and restarts, rebuilt at the other end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from appliance.formats.audit_log import decode_entry
from appliance.formats.audit_part import AuditPart, check_part
from appliance.formats.merkle import leaf_hashes, tree_hash, verify_consistency
from appliance.formats.uplink_message import (
    Accepted,
    PublishAuditPart,
    Refused,
    UplinkAnswer,
    decode_uplink_request,
    encode_uplink_message,
)
from tests.integration.audit.service_lab import AuditLab
from tests.integration.services_harness import listening_socket, wait_until


class Uplink:
    """Takes parts, or does not."""

    def __init__(self, path: Path, answer: Callable[[PublishAuditPart], UplinkAnswer]) -> None:
        self.parts: list[AuditPart] = []
        self._answer = answer
        self._listener = listening_socket(path)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        while data := connection.recv(1 << 17):
            request = decode_uplink_request(data)
            assert isinstance(request, PublishAuditPart)
            answer = self._answer(request)
            if isinstance(answer, Accepted):
                self.parts.append(request.part)
            connection.send(encode_uplink_message(answer))


def accept(request: PublishAuditPart) -> UplinkAnswer:
    return Accepted(id=request.id, stream="audit", sequence=1)


def rebuilt(parts: list[AuditPart]) -> list[bytes]:
    """As a site does: entries in order, each checkpoint's root, each proof."""
    entries: list[bytes] = []
    roots: dict[int, bytes] = {}
    for part in parts:
        checkpoint = check_part(part)
        assert part.start <= len(entries)
        entries[part.start :] = part.entries
        if part.is_last:
            assert tree_hash(leaf_hashes(entries)) == checkpoint.root
            if part.previous:
                verify_consistency(
                    part.previous, roots[part.previous], checkpoint.size, checkpoint.root, part.consistency
                )
            roots[checkpoint.size] = checkpoint.root
    return entries


def test_the_whole_log_arrives_and_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path)
    uplink = Uplink(lab.uplink, accept)
    with lab.running() as client:
        for number in range(400):
            client.record("boot-judged", reason="x" * 500, seconds=number)
        wait_until(lambda: uplink.parts and uplink.parts[-1].is_last and uplink.parts[-1].size > 400, "the log")
    first = len(uplink.parts)
    assert first > 3  # more than one part to a checkpoint
    with lab.running() as client:
        client.record("boot-judged", reason="after", seconds=1)
        wait_until(lambda: len(uplink.parts) > first and uplink.parts[-1].is_last, "the rest")
    assert uplink.parts[first].start > 400  # nothing is sent twice
    entries = rebuilt(uplink.parts)
    assert [decode_entry(data, index=index).index for index, data in enumerate(entries)] == list(range(len(entries)))


def test_an_uplink_that_is_full_or_gone_holds_up_nobody(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path)
    refused: list[int] = []

    def refuse(request: PublishAuditPart) -> UplinkAnswer:
        refused.append(request.part.start)
        return Refused(id=request.id, reason="full", detail="the lane is full")

    uplink = Uplink(lab.uplink, refuse)
    with lab.running() as client:
        wait_until(lambda: refused, "a refusal")
        for number in range(100):
            client.record("boot-judged", reason="x", seconds=number)
    assert uplink.parts == []
    assert set(refused) == {0}
    assert "the uplink did not take a part of the log: the lane is full" in (tmp_path / "audit.log").read_text()
