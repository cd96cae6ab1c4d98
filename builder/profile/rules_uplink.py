"""Rules about the uplink: names that fit each other, and nothing that is written without effect."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from packaging.utils import canonicalize_name

from appliance.formats.device import LaneConfig, UplinkConfig
from builder.profile.problem import Finding
from builder.profile.rules import Rule, finding
from builder.profile.types import Profile


def namespace_has_no_hole(profile: Profile) -> Iterator[Finding]:
    """ISA-95: a cell is part of a line."""
    namespace = profile.uplink.namespace
    if namespace.cell is not None and namespace.line is None:
        message = f"`{namespace.cell}`, but the namespace names no line that it is part of"
        yield finding(("uplink", "namespace", "cell"), message, "add `line`, or write the cell's name as the line's")


def sparkplug_is_complete(profile: Profile) -> Iterator[Finding]:
    """A group and the wheel with it, none without."""
    uplink = profile.uplink
    if uplink.payload == "json":
        if uplink.sparkplug is not None:
            message = "given, but the payload is `json`"
            yield finding(("uplink", "sparkplug"), message, "write `payload: sparkplug-b`, or remove it")
        return
    if uplink.sparkplug is None:
        message = "`sparkplug-b` needs the names of Sparkplug"
        yield finding(("uplink", "payload"), message, "add `sparkplug: {group: NAME}`")
    if not _has_wheel(profile, "protobuf"):
        message = "`protobuf` is missing, `payload: sparkplug-b` needs it"
        yield finding(("software", "wheels"), message, "add `- protobuf==VERSION`")


def batches_can_be_made(profile: Profile) -> Iterator[Finding]:
    """They are compressed."""
    uplink = profile.uplink
    if uplink.payload == "json" and uplink.data.batch and not _has_wheel(profile, "zstandard"):
        message = "`zstandard` is missing, `uplink.data.batch` needs it"
        yield finding(("software", "wheels"), message, "add `- zstandard==VERSION`, or write `batch: false`")


def nothing_is_said_in_vain(profile: Profile) -> Iterator[Finding]:
    """What has no effect is a misunderstanding."""
    uplink = profile.uplink
    if uplink.alarm.share != _default(LaneConfig, "share"):
        message = f"{uplink.alarm.share}, but alarms go before everything else"
        yield finding(("uplink", "alarm", "share"), message, "remove the line: an alarm never waits for its share")
    if uplink.delivery == "broker" and uplink.receipt_s != _default(UplinkConfig, "receipt_s"):
        message = f"{uplink.receipt_s}, but nobody waits for a receipt with `delivery: broker`"
        yield finding(("uplink", "receipt_s"), message, "write `delivery: historian`, or remove the line")
    lanes = (uplink.alarm, uplink.data, uplink.audit)
    if uplink.powered_off == "expired" and not any(lane.expiry_s for lane in lanes):
        message = "`expired`, but no lane has an `expiry_s`"
        yield finding(("uplink", "powered_off"), message, "say after how many seconds, like `data: {expiry_s: 604800}`")


def _default(of: type[msgspec.Struct], key: str) -> object:
    return next(field.default for field in msgspec.structs.fields(of) if field.name == key)


def _has_wheel(profile: Profile, name: str) -> bool:
    return name in {canonicalize_name(pin.split("==")[0]) for pin in profile.software.wheels}


RULES: tuple[Rule, ...] = (
    namespace_has_no_hole,
    sparkplug_is_complete,
    batches_can_be_made,
    nothing_is_said_in_vain,
)
