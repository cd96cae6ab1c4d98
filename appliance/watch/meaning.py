"""Which records and kernel messages are events of the audit log, and which fields they have. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from appliance.formats.audit_event import AuditEvent
from appliance.watch.records import Record, clean, number

USER_ERR, USER_AUTH, USER_ACCT, USER_LOGIN = 1109, 1100, 1101, 1112
SERVICE_START, SERVICE_STOP = 1130, 1131
SECCOMP, ANOM_ABEND, MAC_STATUS = 1326, 1701, 1404
IPE_ACCESS, IPE_CONFIG_CHANGE, IPE_POLICY_LOAD = 1420, 1421, 1422
_LOGINS = {USER_AUTH: "authentication", USER_ACCT: "account check", USER_LOGIN: "login", USER_ERR: "user lookup"}
_NOBODY = ("", "?", "(null)")


def event_of_record(record: Record) -> AuditEvent | None:
    """None for what does not matter here."""
    meaning = _MEANINGS.get(record.kind)
    return meaning(record) if meaning is not None else None


def _refused_program(record: Record) -> AuditEvent | None:
    get = record.fields.get
    if get("enforcing", "1") != "1" or "DENY" not in get("rule", ""):
        return None
    return _event(
        "program-refused",
        operation=_word(get("ipe_op")),
        hook=_word(get("ipe_hook")),
        path=_word(get("path")),
        device=_word(get("dev")),
        command=_word(get("comm")),
        rule=_word(get("rule")),
        pid=number(get("pid", "")),
    )


def _policy(record: Record) -> AuditEvent:
    told = " ".join(f"{name}={value}" for name, value in record.fields.items() if name not in ("auid", "ses"))
    return _event("policy-changed", what=clean(told) or "unknown")


def _enforcement(record: Record) -> AuditEvent | None:
    return _policy(record) if record.fields.get("lsm") == "ipe" else None


def _killed(record: Record) -> AuditEvent | None:
    get = record.fields.get
    signal = number(get("sig", ""))
    if signal == 0:  # a call that was only logged
        return None
    return _event(
        "seccomp-killed",
        command=_word(get("comm")),
        program=_word(get("exe")),
        uid=number(get("uid", "")),
        call=number(get("syscall", "")),
        signal=signal,
    )


def _crashed(record: Record) -> AuditEvent:
    get = record.fields.get
    return _event(
        "process-crashed",
        command=_word(get("comm")),
        program=_word(get("exe")),
        uid=number(get("uid", "")),
        signal=number(get("sig", "")),
    )


def _service(record: Record) -> AuditEvent | None:
    """The kernel names the writing process: only systemd itself is believed."""
    if record.fields.get("pid") != "1" or record.said.get("res") != "failed":
        return None
    action = "start" if record.kind == SERVICE_START else "end well"
    return _event("service-failed", unit=_word(record.said.get("unit")), action=action)


def _login(record: Record) -> AuditEvent | None:
    get = record.said.get
    if get("res") != "failed":
        return None
    return _event(
        "login-failed",
        operation=_LOGINS[record.kind],
        account=_word(get("acct")),
        program=_word(get("exe")),
        address=_word(get("addr")),
    )


_MEANINGS: dict[int, Callable[[Record], AuditEvent | None]] = {
    IPE_ACCESS: _refused_program,
    IPE_CONFIG_CHANGE: _policy,
    IPE_POLICY_LOAD: _policy,
    MAC_STATUS: _enforcement,
    SECCOMP: _killed,
    ANOM_ABEND: _crashed,
    SERVICE_START: _service,
    SERVICE_STOP: _service,
    **dict.fromkeys(_LOGINS, _login),
}


@dataclass(frozen=True)
class _Pattern:
    """A message of the kernel's log, and the event that its groups make."""

    pattern: re.Pattern[str]
    make: Callable[[re.Match[str]], AuditEvent]


_PATTERNS = (
    _Pattern(
        re.compile(r"Lockdown: (.{1,64}?): (.{1,160}?) is restricted; see man kernel_lockdown"),
        lambda match: _event("lockdown-refused", command=clean(match[1]), what=clean(match[2])),
    ),
    _Pattern(
        re.compile(r"device-mapper: verity: (\S{1,32}): (?:data|metadata) block (\d{1,15}) is corrupted"),
        lambda match: _event("block-corrupted", device=clean(match[1]), block=number(match[2])),
    ),
    _Pattern(
        re.compile(r"usb (\S{1,32}): New USB device found, idVendor=([0-9a-f]{4}), idProduct=([0-9a-f]{4})"),
        lambda match: _event("device-found", port=clean(match[1]), vendor=match[2], product=match[3]),
    ),
    _Pattern(
        re.compile(r"usb (\S{1,32}): USB disconnect, device number (\d{1,6})"),
        lambda match: _event("device-removed", port=clean(match[1]), number=number(match[2])),
    ),
    _Pattern(
        re.compile(r"(Loading of (?:unsigned )?module.{0,80}? is rejected|module verification failed.{0,80})"),
        lambda match: _event("module-refused", what=clean(match[1])),
    ),
)


def event_of_message(text: str) -> AuditEvent | None:
    """text: one message of the kernel itself, without its head. None for what does not matter here."""
    for one in _PATTERNS:
        match = one.pattern.match(text)
        if match is not None:
            return one.make(match)
    return None


def _event(kind: str, **fields: str | int) -> AuditEvent:
    return AuditEvent(kind=kind, result="failure" if kind not in _NEUTRAL else "success", fields={**fields})


_NEUTRAL = ("device-found", "device-removed", "policy-changed")


def _word(text: str | None) -> str:
    return "unknown" if text is None or text in _NOBODY else text
