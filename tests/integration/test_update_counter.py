"""The security epoch in a TPM: swtpm, with its state on disk, over power cuts and with other users of its memory."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from appliance.machine.tpm import MAX_ANSWER_BYTES, Attribute, Index, Tpm, TpmRefusalError
from appliance.update.counter import BASE, COUNTER, EpochCounter
from builder.host.child import Child
from builder.host.toolstree import vm_tree
from builder.vm.deadline import wait_until
from builder.vm.swtpm import manufacture_tpm

OTHER = Index(0x0180_0001, COUNTER.attributes, 8)


def no_pause(_seconds: float) -> None:
    """swtpm is never busy; a real one is waited for."""


class Machine:
    """A TPM that survives its machine."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.socket = directory / "tpm.sock"
        self.log = directory / "swtpm.log"
        manufacture_tpm(self.state, vm_tree())

    def another(self, name: str) -> Machine:
        """A new machine beside this one."""
        directory = self.state.parent / name
        directory.mkdir()
        return Machine(directory)

    @contextlib.contextmanager
    def powered(self) -> Iterator[socket.socket]:
        """From power on to the cut: nothing is told to the TPM at the end."""
        self.socket.unlink(missing_ok=True)
        words = [
            "swtpm",
            "socket",
            "--tpm2",
            "--tpmstate",
            f"dir={self.state}",
            "--flags",
            "not-need-init,startup-clear",
        ]
        words += ["--server", f"type=unixio,path={self.socket}"]
        command = vm_tree().command(words, writable=[self.state, self.socket.parent])
        with Child(command, reason="run the TPM", log=self.log) as child:
            wait_until(self.socket.exists, what="the TPM starts", within_s=30, check=child.require_alive)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(30)
                sock.connect(str(self.socket))
                yield sock
            child.kill()

    @contextlib.contextmanager
    def counter(self) -> Iterator[EpochCounter]:
        """The epoch during one boot."""
        with self.powered() as sock:
            yield EpochCounter(over(sock), pause=no_pause)

    @contextlib.contextmanager
    def raw(self) -> Iterator[Tpm]:
        """What another user of the TPM does."""
        with self.powered() as sock:
            yield Tpm(over(sock), pause=no_pause)


class Over:
    """Commands over swtpm's data channel. cut_after: the power fails before that many answers have come."""

    def __init__(self, sock: socket.socket, cut_after: int | None = None) -> None:
        self.sock = sock
        self.left = cut_after
        self.asked = 0

    def __call__(self, command: bytes) -> bytes:
        self.asked += 1
        self.sock.sendall(command)
        answer = self.sock.recv(MAX_ANSWER_BYTES)
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise PowerCutError
        return answer


class PowerCutError(Exception):
    """The command was carried out, and nobody heard."""


def over(sock: socket.socket) -> Over:
    return Over(sock)


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("t"))


def test_it_rises_and_survives_power_cuts(machine: Machine) -> None:
    with machine.counter() as counter:
        assert counter.read() == 0
        assert counter.raise_to(3) == 3
        assert counter.read() == 3
    with machine.counter() as counter:
        assert counter.read() == 3
        assert counter.raise_to(2) == 3
        assert counter.raise_to(5) == 5
    with machine.counter() as counter:
        assert counter.read() == 5


def test_reading_defines_nothing(machine: Machine) -> None:
    with machine.counter() as counter:
        assert (counter.read(), counter.raise_to(0)) == (0, 0)
    with machine.raw() as tpm:
        assert tpm.index(COUNTER.handle) is None
        assert tpm.index(BASE.handle) is None


def test_a_counter_that_was_there_before_does_not_count(machine: Machine) -> None:
    """A new counter starts above those that are gone: what it starts with is its zero."""
    with machine.powered() as sock:
        tpm = Tpm(over(sock), pause=no_pause)
        tpm.define(OTHER)
        for _ in range(7):
            tpm.increment(OTHER.handle)
        undefine(over(sock), OTHER.handle)
    with machine.counter() as counter:
        assert counter.raise_to(2) == 2
    with machine.raw() as tpm:
        assert int.from_bytes(tpm.read(COUNTER.handle, 8), "big") == 10
        assert int.from_bytes(tpm.read(BASE.handle, 8), "big") == 8


def test_a_power_cut_at_every_command(machine: Machine) -> None:
    """Nobody hears the answer of the command at which the power fails; the next boot goes on from there."""
    with machine.powered() as sock:
        whole = Over(sock)
        assert EpochCounter(whole, pause=no_pause).raise_to(2) == 2
    for cut in range(whole.asked):
        fresh = machine.another(f"{cut}")
        with fresh.powered() as sock, pytest.raises(PowerCutError):
            EpochCounter(Over(sock, cut_after=cut), pause=no_pause).raise_to(2)
        with fresh.counter() as counter:
            assert counter.read() in (0, 1, 2)
            assert counter.raise_to(2) == 2


def test_nobody_can_lower_it_or_write_its_base(machine: Machine) -> None:
    with machine.counter() as counter:
        counter.raise_to(4)
    with machine.raw() as tpm:
        for what, handle in ((tpm.write, BASE.handle), (tpm.write, COUNTER.handle)):
            with pytest.raises(TpmRefusalError, match="the TPM cannot write an index"):
                what(handle, bytes(8))
        with pytest.raises(TpmRefusalError, match=r"cannot define an index: the index was defined meanwhile \(0x14c\)"):
            tpm.define(BASE)
    with machine.counter() as counter:
        assert counter.read() == 4


def test_a_full_memory(machine: Machine) -> None:
    """Exactly what the TPM said; once there is room again, it works."""
    with machine.raw() as tpm:
        filled = [fill(tpm, Index(0x0180_1000, Attribute.AUTH_WRITE | Attribute.AUTH_READ, size)) for size in SIZES]
        assert sum(filled) > 0
    with machine.counter() as counter, pytest.raises(EdgesealError) as caught:
        counter.raise_to(1)
    assert str(caught.value) == "the TPM cannot define an index: its memory is full (0x14b)"
    with machine.counter() as counter:
        assert counter.read() == 0


SIZES = (2048, 512, 64, 8, 1)


def fill(tpm: Tpm, first: Index) -> int:
    """Define indexes like `first` until there is no room for one more; how many that were."""
    for number in range(1000):
        handle = first.handle + (first.size << 8) + number
        try:
            tpm.define(Index(handle, first.attributes, first.size))
        except TpmRefusalError as error:
            assert error.code == 0x14B
            return number
    raise AssertionError("a TPM without end")


def test_something_else_at_our_index(machine: Machine) -> None:
    with machine.raw() as tpm:
        tpm.define(Index(COUNTER.handle, BASE.attributes, 8))
    with machine.counter() as counter, pytest.raises(EdgesealError) as caught:
        counter.read()
    assert str(caught.value) == "the TPM's index 0x01806564 holds something else"
    assert caught.value.hint == "it is not ours; its owner can remove it: tpm2_nvundefine -C o"


def test_a_counter_that_was_removed_comes_back_higher(machine: Machine) -> None:
    """Whoever has the owner's right can remove it. With the base in place that gains nothing."""
    with machine.counter() as counter:
        counter.raise_to(3)
    with machine.powered() as sock:
        undefine(over(sock), COUNTER.handle)
    with machine.counter() as counter:
        assert counter.raise_to(1) > 3


def undefine(transmit: Over, handle: int) -> None:
    """TPM2_NV_UndefineSpace by the owner, whose password is empty; not a command of ours."""
    body = bytes.fromhex("40000001") + handle.to_bytes(4, "big") + bytes.fromhex("00000009 40000009 0000 00 0000")
    answer = transmit(bytes.fromhex("8002") + (10 + len(body)).to_bytes(4, "big") + bytes.fromhex("00000122") + body)
    assert answer[6:10] == bytes(4)
