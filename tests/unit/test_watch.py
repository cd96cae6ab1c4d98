"""What the kernel says, as events: real lines, forged lines, any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.clock import Moment
from appliance.formats.audit_event import AuditEvent, check_event, encode_event
from appliance.watch.folding import BURST, Folding
from appliance.watch.meaning import event_of_message, event_of_record
from appliance.watch.messages import Message, decode_message, record_in
from appliance.watch.records import Record, decode_record, number
from appliance.watch.service import Watch
from appliance.watch.sources import Lost, record_of

HEAD = b"audit(1763596800.123:42): "
# Lines as Linux 6.12 writes them; IPE's are those of its documentation (admin-guide/LSM/ipe).
RECORDS = [
    (
        1420,
        b'ipe_op=EXECUTE ipe_hook=BPRM_CHECK enforcing=1 pid=2138 comm="bash" path="/run/intruder" dev="tmpfs" ino=123 '
        b'rule="DEFAULT action=DENY"',
        "The kernel refused EXECUTE of /run/intruder on tmpfs by bash: it is not sealed (DEFAULT action=DENY).",
    ),
    (
        1420,
        b'ipe_op=EXECUTE ipe_hook=MMAP enforcing=1 pid=1 comm="python3" rule="DEFAULT op=EXECUTE action=DENY"',
        "The kernel refused EXECUTE of unknown on unknown by python3: it is not sealed (DEFAULT op=EXECUTE"
        " action=DENY).",
    ),
    (
        1420,
        b"ipe_op=EXECUTE ipe_hook=BPRM_CHECK enforcing=1 pid=7 comm=6120620A path=2F746D702F2220783D22 "
        b'dev="tmpfs" rule="DEFAULT action=DENY"',
        'The kernel refused EXECUTE of /tmp/" x=" on tmpfs by a b?: it is not sealed (DEFAULT action=DENY).',
    ),
    (
        1422,
        b'policy_name="edgeseal" policy_version=0.0.0 policy_digest=sha256:AB auid=4294967295 ses=1 lsm=ipe res=1',
        "What the kernel lets run was changed: policy_name=edgeseal policy_version=0.0.0 policy_digest=sha256:AB"
        " lsm=ipe res=1.",
    ),
    (
        1404,
        b"enforcing=0 old_enforcing=1 auid=0 ses=1 enabled=1 old-enabled=1 lsm=ipe res=1",
        "What the kernel lets run",
    ),
    (
        1326,
        b'auid=4294967295 uid=703 gid=703 ses=4294967295 pid=300 comm="python3" exe="/usr/bin/python3.13" sig=31 '
        b"arch=c000003e syscall=101 compat=0 ip=0x7f code=0x80000000",
        "python3 (user 703) made the forbidden system call 101 and got signal 31.",
    ),
    (
        1701,
        b'auid=4294967295 uid=0 gid=0 ses=4294967295 pid=9 comm="x" exe="/usr/bin/x" sig=11 res=1',
        "x (user 0) crashed with signal 11.",
    ),
    (
        1131,
        b'pid=1 uid=0 auid=4294967295 ses=4294967295 msg=\'unit=edgeseal-uplink comm="systemd" '
        b'exe="/usr/lib/systemd/systemd" hostname=? addr=? terminal=? res=failed\'',
        "The unit edgeseal-uplink failed to end well.",
    ),
    (
        1100,
        b'pid=500 uid=0 auid=0 ses=1 msg=\'op=PAM:authentication acct="root" exe="/usr/bin/login" hostname=? '
        b"addr=10.0.0.9 terminal=tty1 res=failed'",
        "authentication for root by /usr/bin/login from 10.0.0.9 failed.",
    ),
]
NOTHING = [
    (1420, b'ipe_op=EXECUTE ipe_hook=MMAP enforcing=0 pid=1 comm="x" rule="DEFAULT action=DENY"'),
    (1420, b'ipe_op=EXECUTE ipe_hook=MMAP enforcing=1 pid=1 comm="x" rule="op=EXECUTE action=ALLOW"'),
    (1326, b"uid=0 pid=1 sig=0 syscall=1 code=0x7ffc0000"),
    (1131, b"pid=77 uid=0 msg='unit=edgeseal-uplink res=failed'"),
    (1131, b"pid=1 uid=0 msg='unit=edgeseal-uplink res=success'"),
    (1404, b"enforcing=0 lsm=selinux res=1"),
    (1300, b"arch=c000003e syscall=59 success=no"),
]
MESSAGES = [
    (
        "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7",
        "The kernel refused modprobe what lockdown forbids: unsigned module loading.",
    ),
    (
        "device-mapper: verity: 253:0: data block 5 is corrupted",
        "Block 5 of the sealed device 253:0 is not what it was sealed as.",
    ),
    (
        "usb 1-1.2: New USB device found, idVendor=0781, idProduct=5567, bcdDevice= 1.00",
        "A device was plugged in at 1-1.2: vendor 0781, product 5567.",
    ),
    ("usb 1-1.2: USB disconnect, device number 4", "The device 4 at 1-1.2 was unplugged."),
    ("Loading of unsigned module is rejected", "The kernel refused a module: Loading of unsigned module is rejected."),
]


@pytest.mark.parametrize(("kind", "text", "sentence"), RECORDS)
def test_records_that_matter(kind: int, text: bytes, sentence: str) -> None:
    record = decode_record(kind, HEAD + text + b"\0")
    assert record is not None
    event = event_of_record(record)
    assert event is not None
    assert check_event(event).sentence().startswith(sentence)


@pytest.mark.parametrize(("kind", "text"), NOTHING)
def test_records_that_do_not(kind: int, text: bytes) -> None:
    record = decode_record(kind, HEAD + text)
    assert record is not None
    assert event_of_record(record) is None


@pytest.mark.parametrize(("text", "sentence"), MESSAGES)
def test_messages_that_matter(text: str, sentence: str) -> None:
    event = event_of_message(text)
    assert event is not None
    assert check_event(event).sentence() == sentence


def test_a_message_of_a_process_is_not_the_kernels() -> None:
    """The kernel gives what a process writes there another facility."""
    told: list[AuditEvent] = []
    watch = Watch(told.append, lambda: Moment("1" * 32, 1, 1))
    for priority in (b"14", b"6"):
        message = decode_message(priority + b",7,100,-;device-mapper: verity: 253:0: data block 5 is corrupted\n KEY=x")
        assert message is not None
        watch.take([message])
    assert [event.kind for event in told] == ["block-corrupted"]


def test_a_record_that_comes_twice_is_told_once() -> None:
    told: list[AuditEvent] = []
    watch = Watch(told.append, lambda: Moment("1" * 32, 1, 1))
    message = decode_message(b"5,8,100,-;audit: type=1420 " + HEAD + RECORDS[0][1])
    record = decode_record(1420, HEAD + RECORDS[0][1])
    assert message is not None
    assert record is not None
    assert record_in(message) == record
    watch.take([message])
    watch.take([record, Lost("audit records", 0)])
    assert [event.kind for event in told] == ["program-refused", "intake-lost"]


def test_only_the_kernels_datagrams_count() -> None:
    data = (200).to_bytes(4, "little") + (1420).to_bytes(2, "little") + bytes(10) + HEAD + RECORDS[0][1]
    assert record_of(data, (0, 1)) is not None
    assert record_of(data, (4711, 1)) is None
    assert record_of(data[:15], (0, 1)) is None


def test_a_thousand_times_the_same_is_counted() -> None:
    folding = Folding()
    event = AuditEvent(kind="process-crashed", result="failure")
    told = sum(folding.admit(event, 1_000) for _ in range(1000))
    assert told == BURST
    assert folding.counted(2_000) == []
    [counted] = folding.counted(61_000_000)
    assert counted.fields == {"event": "process-crashed", "count": 1000 - BURST}
    assert folding.counted(130_000_000) == []


def test_fields_of_a_command_name_cannot_pretend_to_be_others() -> None:
    """The kernel writes a name with a quote or a space in hexadecimal; the first of two equal fields counts."""
    record = decode_record(1420, HEAD + b'enforcing=1 comm="x" path="/a" path="/b" rule="DENY"')
    assert record is not None
    assert record.fields["path"] == "/a"


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("", 0), ("-1", 0), ("9" * 30, 0), ("x", 0)])
def test_numbers(text: str, value: int) -> None:
    assert number(text) == value


@given(st.integers(0, 65535), st.binary(max_size=400))
def test_any_bytes_of_a_record(kind: int, data: bytes) -> None:
    """Nothing is raised, and what becomes an event is one that the log takes."""
    for text in (data, HEAD + data, HEAD + b"msg='" + data + b"'"):
        for known in (kind, 1420, 1326, 1131, 1100, 1422):
            record = decode_record(known, text)
            event = event_of_record(record) if record is not None else None
            if event is not None:
                encode_event(event)


@given(st.text(max_size=300))
def test_any_text_of_a_message(text: str) -> None:
    for line in (
        text,
        f"usb {text}: USB disconnect, device number 4",
        f"Lockdown: {text}: {text} is restricted; see man",
    ):
        message = Message(1, from_kernel=True, text=line)
        record = record_in(message)
        assert record is None or isinstance(record, Record)
        event = event_of_message(line)
        if event is not None:
            encode_event(event)


@given(st.binary(max_size=400))
def test_any_bytes_of_the_kernels_log(data: bytes) -> None:
    for text in (data, b"6,1,2,-;" + data):
        message = decode_message(text)
        assert message is None or message.sequence >= 0
