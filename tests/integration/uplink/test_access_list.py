"""What mosquitto makes of the access list of a run: a device writes below its own name and reads its own answers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from appliance.uplink.dialect import Publish
from appliance.uplink.events import Acknowledged, Connected, Heard, Rejected
from appliance.uplink.transport import Broker, Link, Opening, Transport
from builder.host.toolstree import vm_tree
from builder.vm import broker as vm
from builder.vm.site import HISTORIAN, make_site
from tests.integration.uplink.transport_harness import Listener, clock

ABOVE = "example/virtual/demo"


def test_a_device_writes_below_its_own_name_and_reads_its_own_answers(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", device_id="line-3", now=datetime.now(UTC))

    def client(name: str, port: int, *topics: str) -> tuple[Transport, Listener]:
        listener = Listener()
        opening = Opening(None, topics, site.certificate(name), site.key(name))
        link = Link(name, site.authority, 30, 600, pause_s=0.05)
        transport = Transport(
            (Broker("127.0.0.1", port),), listener, link=link, begin=lambda: opening, clock=clock("unknown")
        )
        transport.start()
        listener.nth(Connected)
        return transport, listener

    with vm.Broker(tmp_path / "broker", site, vm_tree()) as running:
        historian, read = client(HISTORIAN, running.port, "#")
        device, heard = client("line-3", running.port, f"{ABOVE}/line-3/receipt", f"{ABOVE}/line-4/receipt", "#")
        topics = ("line-3/verdict", "line-3/certificate-request", "line-4/verdict", "line-3x/verdict")
        for token, topic in enumerate(topics):
            device.publish(1, token, Publish(f"{ABOVE}/{topic}", b"{}"))
        device.publish(1, 4, Publish("verdict", b"{}"))
        device.flush()
        heard.wait(lambda _: len(heard.of(Acknowledged)) + len(heard.of(Rejected)) == 5, "five answers")
        historian.publish(1, 1, Publish(f"{ABOVE}/line-4/receipt", b"not for it"))
        historian.publish(1, 2, Publish(f"{ABOVE}/line-3/verdict", b"a forged verdict"))
        historian.publish(1, 3, Publish(f"{ABOVE}/line-3/receipt", b"for it"))
        historian.flush()
        assert heard.nth(Heard).payload == b"for it"
        read.wait(lambda _: len(read.of(Acknowledged)) + len(read.of(Rejected)) == 3, "three answers")
        device.stop()
        historian.stop()
    assert [event.token for event in heard.of(Acknowledged)] == [0, 1]
    assert [(event.token, event.code) for event in heard.of(Rejected)] == [(2, 0x87), (3, 0x87), (4, 0x87)]
    assert [event.token for event in read.of(Rejected)] == [2]
    assert {event.topic for event in read.of(Heard)} <= {
        f"{ABOVE}/line-3/verdict",
        f"{ABOVE}/line-3/certificate-request",
    }
