"""The kernel's log as /dev/kmsg gives it (Documentation/ABI/testing/dev-kmsg). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from appliance.watch.records import Record, decode_record

MAX_MESSAGE = 8192
_HEAD = re.compile(rb"(\d{1,5}),(\d{1,19}),(\d{1,19}),[^;]{0,256};")
_AUDIT = re.compile(r"audit: type=(\d{1,5}) ")


@dataclass(frozen=True)
class Message:
    """sequence: of the kernel, without gaps. from_kernel: no process can write such a one. text: the first line."""

    sequence: int
    from_kernel: bool
    text: str


def decode_message(data: bytes) -> Message | None:
    """None for what is not in that form; nothing is raised, whatever the bytes."""
    head = _HEAD.match(data)
    if head is None:
        return None
    line = data[head.end() : MAX_MESSAGE].partition(b"\n")[0]
    return Message(int(head[2]), int(head[1]) >> 3 == 0, line.decode("ascii", errors="replace"))


def record_in(message: Message) -> Record | None:
    """An audit record that the kernel printed, because nobody took it by netlink."""
    match = _AUDIT.match(message.text)
    return decode_record(int(match[1]), message.text[match.end() :].encode()) if match else None
