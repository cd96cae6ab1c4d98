"""How the uplink fares, in numbers."""

from __future__ import annotations

from appliance.formats.uplink_message import KINDS, Status, StreamStatus
from appliance.uplink.desk import Desk
from appliance.uplink.keeping import Keeper
from appliance.uplink.lanes import LANES
from appliance.uplink.line import Line
from appliance.uplink.outbox import STREAMS, Outbox
from appliance.uplink.spooled import Stream


def status_of(request_id: int, outbox: Outbox, keeper: Keeper, desk: Desk, line: Line) -> Status:
    """The answer to AskStatus."""
    return Status(
        id=request_id,
        connected=line.connected,
        spooled=outbox.rows,
        spooled_bytes=outbox.used,
        accepted=desk.accepted["verdict"],
        acknowledged=line.courier.tally.acknowledged,
        refused=sum(desk.refusals.values()),
        epoch=outbox.epoch,
        broker=line.broker,
        streams={stream: _stream(stream, outbox, keeper, desk) for stream in STREAMS},
        waiting={lane: line.lanes.waiting(lane).count for lane in LANES},
        refusals=desk.refusals,
        dropped=outbox.given_up["dropped"],
        expired=outbox.given_up["expired"],
        undeliverable=outbox.given_up["undeliverable"],
        resent=line.courier.tally.resent,
        connects=line.connects,
        connected_us=line.connected_us,
    )


def _stream(stream: Stream, outbox: Outbox, keeper: Keeper, desk: Desk) -> StreamStatus:
    count = outbox.counts(stream)
    return StreamStatus(
        rows=count.rows,
        bytes=count.bytes,
        budget=keeper.budget(stream),
        accepted=sum(number for kind, number in desk.accepted.items() if KINDS[kind].stream == stream),
        next=count.next,
    )
