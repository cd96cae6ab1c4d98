"""The audit log with a TPM (swtpm): an older disk is recognised, boots are measured, checkpoints signed in it too."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from appliance.audit.anchor import COUNTER, Anchor, Found
from appliance.audit.keys import p256_public
from appliance.formats.signed_note import ECDSA, decode_note, decode_vkey
from appliance.machine.tpm import Tpm
from appliance.machine.tpm_signing import forget_key, make_key, sign_digest
from tests.integration.audit.service_lab import FIRST_BOOT, SECOND_BOOT, THIRD_BOOT, AuditLab
from tests.integration.test_update_counter import Machine, Over, PowerCutError, no_pause, over, undefine


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("t"))


class TpmLab(AuditLab):
    """An audit log beside a TPM; `boot` is from power on to power off."""

    def __init__(self, directory: Path, machine: Machine) -> None:
        super().__init__(directory)
        self.machine = machine
        (directory / "tpm.sock").symlink_to(machine.socket)

    def boots(self, boot_id: str, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.boot(boot_id)
        with powered_for_others(self.machine), self.running() as client:
            client.record("service-started", service=boot_id[0])
            meanwhile()

    def image(self) -> Path:
        """A copy of the disk."""
        copy = self.directory.with_name(f"{self.directory.name}-image")
        for part in ("tlog", "state"):
            shutil.copytree(self.directory / part, copy / part)
        return copy

    def restore(self, copy: Path) -> None:
        """Put the disk back to what it was."""
        for part in ("tlog", "state"):
            shutil.rmtree(self.directory / part)
            shutil.copytree(copy / part, self.directory / part)


class powered_for_others:  # noqa: N801 (a context)
    """The TPM is on, and its one connection is free."""

    def __init__(self, machine: Machine) -> None:
        self._context = machine.powered()

    def __enter__(self) -> None:
        self._context.__enter__().close()

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(None, None, None)


def test_an_old_disk_is_recognised_at_the_next_boot(tmp_path: Path, machine: Machine) -> None:
    lab = TpmLab(tmp_path, machine)
    lab.boots(FIRST_BOOT)
    origin = lab.entries()[0].event.fields["origin"]
    copy = lab.image()
    lab.boots(SECOND_BOOT)
    note = (lab.log / "checkpoint").read_text()
    size = len(lab.entries())
    lab.restore(copy)
    old_note = (lab.log / "checkpoint").read_text()
    assert note != old_note
    lab.boots(THIRD_BOOT)
    began, epoch, rolled_back, *_ = lab.entries()
    assert [entry.event.kind for entry in (began, epoch, rolled_back)] == [
        "log-began",
        "epoch-began",
        "log-rolled-back",
    ]
    assert rolled_back.event.fields["origin"] == origin
    assert int(rolled_back.event.fields["count"]) > int(rolled_back.event.fields["known"])
    assert began.event.fields["previous"] == old_note
    assert began.event.fields["reason"] == "the disk is older than the TPM"
    assert began.event.fields["origin"] != origin
    assert (tmp_path / "tlog.rejected-1" / "checkpoint").read_text() == old_note
    assert len(lab.entries()) < size  # nothing was signed under the old origin any more


def test_a_disk_that_is_the_newest_goes_on(tmp_path: Path, machine: Machine) -> None:
    lab = TpmLab(tmp_path, machine)
    for boot in (FIRST_BOOT, SECOND_BOOT, THIRD_BOOT):
        lab.boots(boot)
    kinds = lab.kinds()
    assert kinds.count("log-began") == 1
    assert kinds.count("log-anchored") == 6  # at each boot and each end
    assert "log-rolled-back" not in kinds
    counts = [int(entry.event.fields["count"]) for entry in lab.told("log-anchored")]
    assert counts == list(range(counts[0], counts[0] + 6))


def test_another_tpm_begins_a_new_log(tmp_path: Path, machine: Machine) -> None:
    lab = TpmLab(tmp_path, machine)
    lab.boots(FIRST_BOOT)
    other = machine.another("other")
    (tmp_path / "tpm.sock").unlink()
    (tmp_path / "tpm.sock").symlink_to(other.socket)
    lab.machine = other
    lab.boots(SECOND_BOOT)
    assert lab.entries()[0].event.fields["reason"] == "the TPM is another one, or was cleared"


def test_a_boot_is_measured_and_its_checkpoint_signed_in_the_tpm(tmp_path: Path, machine: Machine) -> None:
    lab = TpmLab(tmp_path, machine)
    lab.boots(FIRST_BOOT)
    [measured] = lab.told("boot-measured")
    assert {name for name in measured.event.fields if name.startswith("pcr_")} == {f"pcr_{n}" for n in range(16)}
    assert set(measured.event.fields["pcr_7"]) <= set("0123456789abcdef")  # type: ignore[arg-type]
    [line] = [decode_vkey(text) for text in (lab.log / "vkey").read_text().splitlines() if "/tpm+" in text]
    assert line.kind == ECDSA
    note = decode_note((lab.log / "checkpoint").read_bytes())
    [signature] = [one for one in note.signatures if (one.name, one.key_id) == (line.name, line.key_id)]
    key = load_der_public_key(line.key)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature.signature, note.text.encode(), ec.ECDSA(hashes.SHA256()))


def test_the_key_in_the_tpm_is_the_same_after_a_power_cut(machine: Machine) -> None:
    found = []
    for _ in range(2):
        with machine.raw() as tpm:
            key = make_key(tpm, "purpose")
            other = make_key(tpm, "another purpose")
            digest = hashlib.sha256(b"message").digest()
            public = load_der_public_key(p256_public(key.x, key.y))
            assert isinstance(public, ec.EllipticCurvePublicKey)
            public.verify(encode_dss_signature(*sign_digest(tpm, key, digest)), b"message", ec.ECDSA(hashes.SHA256()))
            forget_key(tpm, key)
            found.append((key.x, key.y, other.x))
    assert found[0] == found[1]
    assert found[0][0] != found[0][2]


def test_pcrs_are_what_the_tpm_says(machine: Machine) -> None:
    with machine.raw() as tpm:
        values = tpm.pcrs(24)
    assert values[:17] == [bytes(32)] * 17
    assert values[17:23] == [b"\xff" * 32] * 6  # PCRs of a dynamic launch that never was


def test_a_step_of_the_anchor_that_is_cut_at_every_command(tmp_path: Path, machine: Machine) -> None:
    """Nobody hears the answer of the command at which the power fails; the disk is still the newest afterwards."""
    with machine.powered() as sock:
        Anchor(tmp_path, Tpm(over(sock), pause=no_pause)).step()
        whole = Over(sock)
        Anchor(tmp_path, Tpm(whole, pause=no_pause)).step()
    for cut in range(whole.asked):
        with machine.powered() as sock, pytest.raises(PowerCutError):
            Anchor(tmp_path, Tpm(Over(sock, cut_after=cut), pause=no_pause)).step()
        with machine.raw() as tpm:
            assert Anchor(tmp_path, tpm).look().verdict == "newest"
            Anchor(tmp_path, tpm).step()


def test_what_the_anchor_sees(tmp_path: Path, machine: Machine) -> None:
    old = tmp_path / "old"
    with machine.raw() as tpm:
        assert Anchor(tmp_path, tpm).look() == Found("new", None, None)
        first = Anchor(tmp_path, tpm).step()
        shutil.copytree(tmp_path, old, ignore=shutil.ignore_patterns("old"))
        assert Anchor(tmp_path, tpm).look() == Found("newest", first, first)
        second = Anchor(tmp_path, tpm).step()
        assert second == first + 1
        assert Anchor(old, tpm).look() == Found("older", second, first)
    with machine.powered() as sock:
        undefine(over(sock), COUNTER.handle)
    with machine.raw() as tpm:
        assert Anchor(tmp_path, tpm).look() == Found("strange", None, second)
        third = Anchor(tmp_path, tpm).step()  # a new counter starts above all that were lost
        assert third > second
        assert Anchor(old, tpm).look().verdict == "older"
