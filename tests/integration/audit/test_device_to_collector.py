"""The whole way of an audit log: the device's writer, its uplink, a broker, the site's collector, the reviewer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.cli.main import main
from tests.integration.audit.service_lab import DEVICE, FIRST_BOOT, AuditLab
from tests.integration.services_harness import Service, wait_until
from tests.integration.uplink_harness import NAMESPACE, UplinkPlant, plant_at

EVENTS = 150  # in each of two boots


def start_collector(place: Path, plant: UplinkPlant, vkey: str) -> subprocess.Popen[str]:
    """`edgeseal audit collect` as a site runs it."""
    certificate, key = plant.authority.issue("collector", address=None)
    (place / "collector.pem").write_bytes(certificate)
    (place / "collector.key").write_bytes(key)
    words = [
        *("audit", "collect", str(place / "collected"), f"--broker=127.0.0.1:{plant.broker.port}"),
        *(f"--ca={plant.directory}/ca.pem", f"--certificate={place}/collector.pem", f"--key={place}/collector.key"),
        *(f"--namespace={NAMESPACE.topic}", f"--vkey={vkey}", f"--witness-key={place}/w.key"),
    ]
    command = [sys.executable, "-m", "builder.cli.main", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_the_device_recorded_is_what_the_site_can_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: tmp_path / name for name in ("device", "plant", "site")}
    for place in places.values():
        place.mkdir()
    lab = AuditLab(places["device"])
    with lab.running():
        pass  # its first boot, in the factory: it has a key now, and the site gets to know it
    vkey = (lab.log / "vkey").read_text().splitlines()[0]
    copy = places["site"] / "collected" / DEVICE / vkey.split("+")[0].rpartition("/")[2]
    assert main(["audit", "witness", "key", "--name", "site.test/w1", "--out", str(places["site"] / "w.key")]) == 0

    with plant_at(places["plant"]) as plant:
        plant.broker.start()
        lab.uplink = plant.socket
        collector = start_collector(places["site"], plant, vkey)
        seen = places["site"] / "collected" / "seen"
        wait_until(lambda: seen.is_dir() and bool(list(seen.iterdir())), "the collector subscribed")
        uplink = plant.start()
        try:
            for boot in (1, 2):
                lab.boot(f"{FIRST_BOOT[:-1]}{boot}")
                uplink = _record(lab, plant, uplink)
            recorded = len(lab.entries())
            with lab.running():  # what a boot says last leaves in the next one
                wait_until(lambda: _size(copy) >= recorded, "the last checkpoint of the second boot")
        finally:
            uplink.kill()
            collector.kill()
            collector.communicate(timeout=60)
    capsys.readouterr()
    assert main(["audit", "verify", str(copy), "--vkey", vkey]) == 0
    assert main(["audit", "collect", "status", str(places["site"] / "collected")]) == 0
    assert main(["audit", "diff", str(copy), str(lab.log)]) == 0
    assert [entry.event.kind for entry in lab.entries()].count("boot-judged") == 2 * EVENTS


def _record(lab: AuditLab, plant: UplinkPlant, uplink: Service) -> Service:
    """One boot's events; the uplink is killed in the middle and started anew. It is the new one that is returned."""
    kill: dict[int, Callable[[], None]] = {EVENTS // 2: uplink.kill}
    with lab.running() as client:
        for seconds in range(EVENTS):
            client.record("boot-judged", reason="all is well", seconds=seconds)
            kill.get(seconds, lambda: None)()
        started = plant.start()
        wait_until(lambda: _spooled(plant) == 0, "everything has left")
    return started


def _spooled(plant: UplinkPlant) -> int:
    client = plant.client()
    try:
        return client.status().spooled
    finally:
        client.close()


def _size(copy: Path) -> int:
    path = copy / "checkpoint"
    return int(path.read_text().split("\n")[1]) if path.is_file() else 0
