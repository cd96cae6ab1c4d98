"""The site's collector: messages of many devices in, one rebuilt and cosigned log per device, alarms out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.durable import write_durable
from appliance.core.errors import DecodeError
from appliance.formats.audit_part import AuditPart, decode_part
from appliance.formats.signed_note import VerifierKey
from appliance.formats.uplink_envelope import decode_envelope
from builder.audit.alarms import Alarm, AlarmKind, Alarms
from builder.audit.device_log import DeviceLog, Outcome
from builder.audit.witness import Witness

_ORIGIN = re.compile(r"edgeseal\.audit/([A-Za-z0-9][A-Za-z0-9._-]{0,62})/([0-9a-f]{8})")


def split_origin(origin: str) -> tuple[str, str]:
    """Device and log id. Raises DecodeError."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        raise DecodeError(f"`{origin[:80]}` is not the origin of a device's log")
    return match[1], match[2]


class Collector:
    """directory: gets DEVICE/LOG/ for every log, alarms/ and seen/. logs: origin -> keys.

    told: called with every alarm that begins. silence_s: a log without a part for so long is silent.
    """

    def __init__(
        self,
        directory: Path,
        logs: Mapping[str, Sequence[VerifierKey]],
        witness: Witness,
        *,
        silence_s: int,
        told: Callable[[Alarm], None],
        now: int,
    ) -> None:
        self._directory, self._logs, self._witness = directory, logs, witness
        self._silence_s, self._told = silence_s, told
        self.alarms = Alarms(directory / "alarms")
        (directory / "seen").mkdir(exist_ok=True)
        self._devices = {origin: split_origin(origin) for origin in logs}
        for origin in logs:
            self._settle(origin, self._open(origin).resume(now=now), now, b"")
            if self._seen(origin) is None:
                self._note_seen(origin, "", 0, now)

    def take(self, topic: str, payload: bytes, *, now: int) -> int | None:
        """One message; everything is durable when it returns, so that it may be acknowledged. The log's new size."""
        device = topic.split("/")[-2] if topic.count("/") else topic
        try:
            envelope = decode_envelope(payload)
            if envelope.kind != "audit":
                return None
            part = decode_part(envelope.body)
            if (envelope.device, split_origin(part.origin)[0], part.device) != (device,) * 3:
                raise DecodeError(f"it is of {part.device}, in an envelope of {envelope.device}")
        except DecodeError as error:
            self._alarm("malformed", _safe(device), "-", f"a message on {topic[:200]}: {error.message}", now, payload)
            return None
        if part.origin not in self._logs:
            text = f"a log of {device} whose key is not known here: {part.origin}"
            self._alarm("unknown-log", *split_origin(part.origin), text, now, payload)
            return None
        return self._part(part, envelope.epoch, envelope.sequence, payload, now)

    def look_for_silence(self, *, now: int) -> None:
        """Raise the alarm for every log from which nothing came for too long."""
        for origin, (device, log) in self._devices.items():
            seen = self._seen(origin)
            if seen is not None and now - seen["at"] > self._silence_s:
                text = f"no part of the log came for {now - seen['at']} s"
                self._alarm("silence", device, log, text, now, b"")

    def status(self) -> dict[str, Any]:
        """Every log with its size, and the alarms that stand."""
        return status_of(self._directory)

    def _part(self, part: AuditPart, epoch: str, sequence: int, payload: bytes, now: int) -> int | None:
        seen = self._seen(part.origin)
        newest = seen is None or seen["epoch"] != epoch or sequence > seen["sequence"]
        outcome = self._open(part.origin).take(part, newest=newest, now=now)
        if newest:
            self._note_seen(part.origin, epoch, sequence, now)
        self.alarms.end("silence", *self._devices[part.origin])
        self._settle(part.origin, outcome, now, payload)
        return outcome.grown

    def _settle(self, origin: str, outcome: Outcome, now: int, payload: bytes) -> None:
        device, log = self._devices[origin]
        if outcome.alarm is not None:
            self._alarm(outcome.alarm, device, log, outcome.text, now, payload)
        elif outcome.complete:
            self.alarms.end("gap", device, log)

    def _alarm(self, kind: AlarmKind, device: str, log: str, text: str, now: int, evidence: bytes) -> None:
        alarm = self.alarms.raise_alarm(Alarm(kind, device, log, text, now), evidence=evidence)
        if alarm is not None:
            self._told(alarm)

    def _open(self, origin: str) -> DeviceLog:
        device, log = self._devices[origin]
        return DeviceLog(self._directory / device / log, origin, self._logs[origin], self._witness)

    def _seen(self, origin: str) -> Any:
        try:
            return msgspec.json.decode(self._seen_file(origin).read_bytes())
        except FileNotFoundError:
            return None

    def _note_seen(self, origin: str, epoch: str, sequence: int, now: int) -> None:
        data = canonical_json({"at": now, "epoch": epoch, "sequence": sequence, "origin": origin})
        write_durable(self._seen_file(origin), data)

    def _seen_file(self, origin: str) -> Path:
        return self._directory / "seen" / (".".join(self._devices[origin]) + ".json")


def status_of(directory: Path) -> dict[str, Any]:
    """Of a collector's directory, whether one runs on it or not."""
    logs = []
    for path in sorted((directory / "seen").glob("*.json")):
        seen = msgspec.json.decode(path.read_bytes())
        device, log = split_origin(seen["origin"])
        checkpoint = directory / device / log / "checkpoint"
        size = int(checkpoint.read_text().split("\n")[1]) if checkpoint.is_file() else 0
        logs.append({"device": device, "log": log, "size": size, "heard_at": seen["at"]})
    return {"directory": str(directory), "logs": logs, "alarms": Alarms(directory / "alarms").standing()}


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:63] or "_"
