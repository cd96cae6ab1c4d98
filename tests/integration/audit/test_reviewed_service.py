"""The device's own writer, and everything that a site does with its log: verified by us and by strangers, collected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.formats.audit_part import AuditPart
from appliance.formats.signed_note import VerifierKey, decode_vkey, encode_vkey
from builder.audit.alarms import Alarm
from builder.audit.collector import Collector
from builder.audit.crypto import make_witness_key
from builder.audit.policy import Policy, witnesses_needed
from builder.audit.verify import verify_log
from builder.audit.witness import Witness
from builder.cli.main import main
from tests.integration.audit.foreign import run_go
from tests.integration.audit.service_lab import FIRST_BOOT, AuditLab
from tests.integration.audit.test_service_uplink import Uplink, accept
from tests.integration.services_harness import wait_until
from tests.support.audit_parts import envelope

NOBODY = Policy((), {}, {}, None)
VERIFIER = Path(__file__).parents[3] / "docs/how-to/verify-audit-log.py"


def keys_of(lab: AuditLab) -> list[VerifierKey]:
    """As the device exports them."""
    return [decode_vkey(line) for line in (lab.log / "vkey").read_text().splitlines()]


def three_boots(lab: AuditLab) -> None:
    for number in range(3):
        lab.boot(f"{FIRST_BOOT[:-1]}{number}")
        with lab.running() as client:
            for seconds in range(60):
                client.record("boot-judged", reason="all is well", seconds=seconds)


def test_the_writers_log_is_verified_by_us_by_go_and_by_the_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = AuditLab(tmp_path)
    three_boots(lab)
    keys = keys_of(lab)
    found = verify_log(lab.log, keys, NOBODY, since=None)
    assert [finding.sentence() for finding in found.findings] == []
    assert (found.remarks, found.boots, found.entries) == ([], (1, 3), found.size)
    assert [epoch.number for epoch in found.epochs] == [1, 2, 3]
    assert found.size > 180
    code, said = run_go(lab.log, encode_vkey(keys[0]))
    assert code == 0, said
    assert f"inclusion: {found.size} entries are in the tree, 0 are pruned" in said
    words = [sys.executable, "-I", VERIFIER, lab.log, encode_vkey(keys[0])]
    plain = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert plain.returncode == 0, plain.stderr
    assert main(["audit", "show", str(lab.log), "--boot", "2"]) == 0
    assert "all is well" in capsys.readouterr().out


def test_the_writers_parts_become_a_cosigned_copy(tmp_path: Path) -> None:
    lab = AuditLab(tmp_path)
    uplink = Uplink(lab.uplink, accept)
    three_boots(lab)
    with lab.running():
        wait_until(lambda: uplink.parts and uplink.parts[-1].is_last and uplink.parts[-1].size > 180, "the log")
    keys = keys_of(lab)
    site = tmp_path / "site"
    site.mkdir()
    logs = {keys[0].name: keys[:1]}
    key = make_witness_key(tmp_path / "w.key", "site.test/w1")
    alarms: list[Alarm] = []
    collector = Collector(site, logs, Witness(key, site / "witness", logs), silence_s=60, told=alarms.append, now=1)
    parts: list[AuditPart] = list(uplink.parts)
    for sequence, part in enumerate(parts, 1):
        message = envelope(part, sequence, device=part.device)
        collector.take(f"edgeseal/{part.device}/audit", message, now=sequence)
    assert alarms == []
    (log,) = collector.status()["logs"]
    assert log["size"] == parts[-1].size
    copy = site / log["device"] / log["log"]
    found = verify_log(copy, keys, witnesses_needed([key.verifier]), since=parts[0].checkpoint.encode())
    assert [finding.sentence() for finding in found.findings] == []
    code, said = run_go(copy, encode_vkey(keys[0]), "", encode_vkey(key.verifier))
    assert code == 0, said
