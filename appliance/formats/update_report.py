"""How an update ended, for whoever watches the plant. Spec: docs/specs/update-report.md (v1).

It leaves the site exactly in this form: canonical JSON. The audit log has the whole story.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct
from appliance.formats.verdict import BootId, Count, DeviceId

MAX_REPORT_BYTES = 2048

TransactionId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}(?!\n)$")]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]


Outcome = Literal["confirmed", "fell-back"]


class UpdateReport(FrozenStruct, frozen=True, kw_only=True):
    """One end of one update.

    transaction: the same as in the audit log. version: the one that was tried. running: the one that runs now.
    boot_id, monotonic_us: when it was known.
    """

    schema: Literal[1] = 1
    device: DeviceId
    boot_id: BootId
    monotonic_us: Count
    transaction: TransactionId
    version: Count
    running: Count
    outcome: Outcome
    reason: Reason


def encode_update_report(report: UpdateReport) -> bytes:
    """The canonical bytes of `report`: the payload of the MQTT message."""
    return canonical_json(msgspec.to_builtins(report))


def decode_update_report(data: bytes) -> UpdateReport:
    """Raises DecodeError on anything but the canonical bytes of an UpdateReport."""
    if len(data) > MAX_REPORT_BYTES:
        raise DecodeError(f"update report: {len(data)} bytes, at most {MAX_REPORT_BYTES} are allowed")
    try:
        report = msgspec.json.decode(data, type=UpdateReport)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"update report: {error}") from error
    if encode_update_report(report) != data:
        raise DecodeError("update report: not in canonical form")
    return report
