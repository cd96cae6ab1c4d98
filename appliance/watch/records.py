"""Records of the kernel's audit system as they come: their fields, decoded. Pure.

Form: kernel/audit.c and its users, Linux 6.12; `audit(SECONDS.MILLIS:SERIAL): key=value key="text" key=HEX …`. What
came from a process is quoted when it is harmless and hexadecimal otherwise; what user space says is in msg='…'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_RECORD = 8970  # MAX_AUDIT_MESSAGE_LENGTH of libaudit
MAX_WORD = 256

_HEAD = re.compile(r"audit\(\d+\.\d{3}:(\d{1,19})\): ?")
_FIELD = re.compile(r"""([A-Za-z][A-Za-z0-9_-]*)=("(?:[^"]*)"|'(?:[^']*)'|[^\s"']*)""")
_HEXADECIMAL = re.compile(r"(?:[0-9A-F]{2})+")
_UNTRUSTED = frozenset({"acct", "comm", "dev", "exe", "name", "path", "unit"})


@dataclass(frozen=True)
class Record:
    """kind: of the netlink message. serial: of the event; records of one event share it. fields: as the kernel says.

    said: what is in msg='…', which a process with the right to write audit records wrote.
    """

    kind: int
    serial: int
    fields: dict[str, str]
    said: dict[str, str]


def decode_record(kind: int, data: bytes) -> Record | None:
    """None for what is not in the form above; nothing is raised, whatever the bytes."""
    text = data[:MAX_RECORD].rstrip(b"\0\n").decode("ascii", errors="replace")
    head = _HEAD.match(text)
    if head is None:
        return None
    fields = _fields(text[head.end() :])
    said = _fields(fields.pop("msg", ""))
    return Record(kind, int(head[1]), fields, said)


def clean(text: str) -> str:
    """At most MAX_WORD printable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_WORD])


def number(text: str, base: int = 10) -> int:
    """A whole number that the log can hold; 0 for anything else."""
    try:
        value = int(text, base)
    except ValueError:
        return 0
    return value if 0 <= value < 2**53 else 0


def _fields(text: str) -> dict[str, str]:
    """The first of each name: what comes later in a line may have been put there by whoever chose the values before."""
    found: dict[str, str] = {}
    for match in _FIELD.finditer(text):
        name, value = match[1], match[2]
        if name not in found:
            found[name] = _value(name, value)
    return found


def _value(name: str, value: str) -> str:
    if value[:1] in ('"', "'"):
        inner = value[1:-1]
        return inner if name == "msg" else clean(inner)
    if name in _UNTRUSTED and _HEXADECIMAL.fullmatch(value):
        return clean(bytes.fromhex(value).decode("utf-8", errors="replace"))
    return clean(value)
