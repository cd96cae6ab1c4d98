"""The security epoch against a TPM that misbehaves. With a real one: tests/integration/test_update_counter.py."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from appliance.core.errors import DecodeError, EdgesealError
from appliance.machine.tpm import BUSY_ATTEMPTS, BUSY_PAUSE_S, OWNER, Attribute, Index, Tpm
from appliance.update.counter import BASE, COUNTER, MAX_STEP, EpochCounter, open_counter

DEFINE, INCREMENT, WRITE, LOCK, READ, DESCRIBE = 0x12A, 0x134, 0x137, 0x138, 0x14E, 0x169


class LostError(Exception):
    """Power was cut; the answer, if there was one, reached nobody."""


class Chip:
    """A TPM's memory as a table. codes: answers to give instead, in turn; None for the true one.

    fault: (at which command, whether it was carried out): LOST it was not, UNACKNOWLEDGED it was.
    """

    def __init__(self, *codes: int | None, highest: int = 0, fault: tuple[int, bool] | None = None) -> None:
        self.codes = list(codes)
        self.highest = highest
        self.fault = fault
        self.asked = 0
        self.memory: dict[int, list[int]] = {}
        self.paused: list[float] = []

    def counter(self) -> EpochCounter:
        return EpochCounter(self, pause=self.paused.append)

    def __call__(self, command: bytes) -> bytes:
        tag, size, code = struct.unpack_from(">HII", command)
        assert size == len(command)
        assert tag == (0x8001 if code == DESCRIBE else 0x8002)
        self.asked += 1
        if self.fault == (self.asked, False):
            raise LostError
        instead = self.codes.pop(0) if self.codes else None
        answer = self._carry_out(code, command[10:]) if instead is None else (instead, b"")
        if self.fault == (self.asked, True):
            raise LostError
        return struct.pack(">HII", tag, 10 + len(answer[1]), answer[0]) + answer[1]

    def _carry_out(self, code: int, body: bytes) -> tuple[int, bytes]:
        first, second = struct.unpack_from(">II", body) if len(body) > 4 else (0, *struct.unpack(">I", body))
        if code == DEFINE:
            assert first == OWNER
            handle, _, attributes, _, size = struct.unpack_from(">IHIHH", body, 4 + 13 + 4)
            self.memory[handle] = [attributes, 0, size]
            return 0, b"\0" * 9
        if second not in self.memory:
            return (0x18B if code == DESCRIBE else 0x28B), b""
        entry = self.memory[second]
        if code == DESCRIBE:
            public = struct.pack(">IHIHH", second, 0x0B, entry[0], 0, entry[2])
            return 0, struct.pack(">H", len(public)) + public + b"\0\x22" + b"\0" * 34
        if code == INCREMENT:
            entry[1] = (entry[1] if entry[0] & Attribute.WRITTEN else self.highest) + 1
            entry[0] |= Attribute.WRITTEN
        elif code == WRITE:
            entry[1] = int.from_bytes(body[23:31], "big")
            entry[0] |= Attribute.WRITTEN
        elif code == LOCK:
            entry[0] |= Attribute.WRITE_LOCKED
        data = struct.pack(">HQ", 8, entry[1]) if code == READ else b""
        return 0, struct.pack(">I", len(data)) + data + b"\0" * 5


@pytest.mark.parametrize("carried_out", [True, False], ids=["UNACKNOWLEDGED", "LOST"])
@pytest.mark.parametrize("highest", [0, 40])
def test_power_cuts_at_every_command(carried_out: bool, highest: int) -> None:
    """The epoch is never above what was asked for, and calling again gets there."""
    whole = Chip(highest=highest)
    assert whole.counter().raise_to(3) == 3
    for number in range(1, whole.asked + 1):
        chip = Chip(highest=highest, fault=(number, carried_out))
        with pytest.raises(LostError):
            chip.counter().raise_to(3)
        chip.fault = None
        assert chip.counter().read() <= 3
        assert chip.counter().raise_to(3) == 3
        assert chip.counter().read() == 3


def test_no_more_increments_than_needed() -> None:
    chip = Chip(highest=100)
    assert chip.counter().raise_to(5) == 5
    assert chip.memory[COUNTER.handle][1] == 106
    assert chip.memory[BASE.handle][1] == 101
    asked = chip.asked
    assert chip.counter().raise_to(5) == 5
    assert chip.asked == asked + 4, "two descriptions and two readings: nothing is written"


def test_what_is_too_far_is_refused_before_anything_is_written() -> None:
    chip = Chip()
    with pytest.raises(EdgesealError) as caught:
        chip.counter().raise_to(MAX_STEP + 1)
    assert str(caught.value) == "the TPM's security epoch is 0, and 1025 is more than 1024 above it"
    assert caught.value.hint == "a counter rises one by one: raise the epoch in several releases"
    assert chip.memory == {}
    assert chip.counter().raise_to(MAX_STEP) == MAX_STEP


def test_a_busy_tpm_is_waited_for() -> None:
    chip = Chip(0x922, 0x920, None, 0x908)
    assert chip.counter().raise_to(1) == 1
    assert chip.paused == [BUSY_PAUSE_S] * 3


REFUSALS = [
    ([0x100], "the TPM cannot describe an index: it was not started (0x100)"),
    ([0x101], "the TPM cannot describe an index: it has failed its self-test (0x101)"),
    ([0x922] * BUSY_ATTEMPTS, "the TPM cannot describe an index: it stays busy (0x922)"),
    ([None] * 3 + [0x9A2], "the TPM cannot define an index: its owner has a password (0x9a2)"),
    ([None] * 3 + [0x14B], "the TPM cannot define an index: its memory is full (0x14b)"),
    ([None] * 3 + [0x14C], "the TPM cannot define an index: the index was defined meanwhile (0x14c)"),
    ([None] * 5 + [0x149], "the TPM cannot raise a counter: the index does not let us (0x149)"),
    ([None] * 5 + [0x921], "the TPM cannot raise a counter: it is locked out (0x921)"),
    ([None] * 9 + [0x148], "the TPM cannot read an index: the index is locked (0x148)"),
    ([None] * 10 + [0x2C4], "the TPM cannot write an index: error (0x2c4)"),
    ([None] * 11 + [0x128], "the TPM cannot lock an index: error (0x128)"),
]


@pytest.mark.parametrize(("codes", "message"), REFUSALS, ids=[message[15:] for _, message in REFUSALS])
def test_what_a_tpm_refuses(codes: list[int | None], message: str) -> None:
    with pytest.raises(EdgesealError) as caught:
        Chip(*codes).counter().raise_to(1)
    assert str(caught.value) == message


PUBLIC = struct.pack(">HIHIHH", 14, COUNTER.handle, 0x0B, COUNTER.attributes, 0, 8)
MALFORMED = [
    (b"", "TPM: an answer of 0 bytes"),
    (b"\x80\x01" + b"\0" * 7, "TPM: an answer of 9 bytes"),
    (struct.pack(">HII", 0x8001, 11, 0), "TPM: an answer of 10 bytes says that it has 11"),
    (struct.pack(">HII", 0x8001, 20, 0) + PUBLIC[:10], "TPM: the description of an index is cut short"),
    (
        struct.pack(">HII", 0x8001, 10 + len(PUBLIC), 0) + b"\0\x0e\x01\x80\0\0" + PUBLIC[6:],
        "TPM: the description of an index is another one's",
    ),
]


@pytest.mark.parametrize(("answer", "message"), MALFORMED)
def test_what_is_no_answer(answer: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        EpochCounter(lambda _: answer, pause=lambda _: None).read()
    assert str(caught.value) == message


def test_a_reading_of_another_size() -> None:
    answer = struct.pack(">HII", 0x8002, 20, 0) + struct.pack(">IHI", 6, 4, 1)
    with pytest.raises(DecodeError, match="TPM: not the 8 bytes that were asked for"):
        Tpm(lambda _: answer, pause=lambda _: None).read(COUNTER.handle, 8)


@pytest.mark.parametrize("wanted", [COUNTER, BASE])
def test_what_lies_at_our_index_and_is_not_ours(wanted: Index) -> None:
    chip = Chip()
    chip.memory[wanted.handle] = [wanted.attributes ^ Attribute.NO_LOCKOUT, 7, 8]
    with pytest.raises(EdgesealError, match=f"the TPM's index 0x{wanted.handle:08x} holds something else"):
        chip.counter().read()


def test_a_counter_below_its_base() -> None:
    chip = Chip()
    chip.counter().raise_to(1)
    chip.memory[BASE.handle][1] = 9
    with pytest.raises(EdgesealError) as caught:
        chip.counter().read()
    assert str(caught.value) == "the TPM's counter is 2, below its base 9: its memory was tampered with"


def test_a_machine_without_a_tpm(tmp_path: Path) -> None:
    assert open_counter(tmp_path / "tpmrm0", pause=lambda _: None) is None


def test_a_tpm_that_may_not_be_opened_is_not_an_absent_one(tmp_path: Path) -> None:
    with pytest.raises(EdgesealError) as caught:
        open_counter(tmp_path, pause=lambda _: None)
    assert str(caught.value) == f"cannot open the TPM {tmp_path}: Is a directory"


def test_a_tpm_that_does_not_answer() -> None:
    counter = open_counter(Path("/dev/full"), pause=lambda _: None)
    assert counter is not None
    with pytest.raises(EdgesealError) as caught:
        counter.read()
    assert str(caught.value) == "the TPM does not answer: No space left on device"
