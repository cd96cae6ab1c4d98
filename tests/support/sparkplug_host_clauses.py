"""Assertions about the primary host and its commands. Written from the specification."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.sparkplug_clause import clause
from tests.support.sparkplug_recording import Connection, Ended, Heard, Recording, Said, asks_for_rebirth


@clause(
    "message-flow-edge-node-birth-publish-phid-wait",
    "message-flow-edge-node-birth-publish-phid-wait-id",
    "message-flow-edge-node-birth-publish-phid-wait-online",
    "message-flow-edge-node-birth-publish-phid-wait-timestamp",
    "operational-behavior-edge-node-birth-sequence-wait",
)
def _waits_for_the_host(recording: Recording) -> Iterator[str]:
    if not recording.host:
        return
    for connection in recording.connections:
        known = [(at, online) for _, at, online, counts in recording_states(recording, connection) if counts]
        for place, record in enumerate(connection.records):
            if isinstance(record, Said) and record.message.type == "NBIRTH":
                before = [online for at, online in known if at < place]
                if before[-1:] != [True]:
                    yield "a birth while the primary host was not known to be online"


def recording_states(recording: Recording, connection: Connection) -> list[tuple[Connection, int, bool, bool]]:
    """The host's states on one connection, whether they count judged over all of them."""
    return [state for state in recording.states() if state[0] is connection]


@clause(
    "message-flow-edge-node-birth-publish-phid-offline",
    "operational-behavior-edge-node-termination-host-offline",
    "operational-behavior-edge-node-termination-host-offline-timestamp",
)
def _leaves_with_the_host(recording: Recording) -> Iterator[str]:
    for connection, place, online, counts in recording.states():
        earlier = [record.message.type for record in connection.records[:place] if isinstance(record, Said)]
        born = "NBIRTH" in earlier and earlier[-1] != "NDEATH"
        after = connection.records[place + 1 :]
        own = [record.message.type for record in after if isinstance(record, Said)]
        left = any(isinstance(record, Ended) and record.reason is not None for record in after)
        if born and not online and counts and (own != ["NDEATH"] or not left):
            yield f"the host went offline, and there came {own}"
        if born and not online and not counts and own[:1] == ["NDEATH"]:
            yield "a late state ended the session"


@clause("operational-behavior-data-commands-rebirth-action-1", "operational-behavior-data-commands-rebirth-action-2")
def _reborn(recording: Recording) -> Iterator[str]:
    for connection in recording.connections:
        said: list[str] = []
        asked = False
        for record in connection.records:
            if isinstance(record, Heard) and record.message.topic == recording.topic("NCMD"):
                asked |= asks_for_rebirth(record.message) and "NBIRTH" in said and said[-1] != "NDEATH"
            elif isinstance(record, Said) and record.message.type:
                again = record.message.type == "NBIRTH" and "NBIRTH" in said
                if asked and record.message.type == "NDATA":
                    yield "data after a rebirth was asked for"
                if again and not asked:
                    yield "a rebirth that nobody asked for"
                asked = asked and not again
                said.append(record.message.type)
        if asked and said[-1] != "NDEATH":
            yield "a rebirth was asked for and did not come"
