"""edgeseal-network against the kernel: what changes behind its back is told and undone, what is dropped is told."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.formats.conduit_elements import Element, conduit_elements
from appliance.formats.site_network import SiteNetwork, encode_site_network
from appliance.network.driftwatch import BURST, CREDIT_S
from tests.integration.network_harness import NetworkDevice, network_device
from tests.integration.services_harness import wait_until
from tests.support.policies import everything

pytestmark = pytest.mark.xdist_group("network-service")

SLOTS = encode_site_network(SiteNetwork(schema=1, slots={"broker": ("192.168.20.5", "192.168.20.9")}))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[NetworkDevice]:
    """Everything that a policy can say, sealed; nothing loaded."""
    with network_device(tmp_path, everything()) as device:
        yield device


@pytest.fixture
def running(device: NetworkDevice) -> NetworkDevice:
    """Loaded at boot, the uplink started, its slot filled, the service up."""
    device.load_as_at_boot()
    device.site_says(SLOTS)
    device.start_unit("uplink")
    return device.start()


def test_it_starts_on_what_was_loaded_at_boot_and_finds_nothing_wrong(running: NetworkDevice) -> None:
    assert running.wait_for("service-started") == {"service": "edgeseal-network"}
    [loaded] = running.fields("ruleset-loaded")
    assert (loaded["conduits"], loaded["closed"]) == (len(everything().conduits), 1)
    assert running.fields("slot-filled") == [{"slot": "broker", "addresses": "192.168.20.5, 192.168.20.9"}]
    assert FILLED.text() in running.listed()
    assert '"system.slice/edgeseal-uplink.service"' in running.listed()
    assert running.stop() == 0
    assert running.fields("service-stopped") == [{"service": "edgeseal-network", "reason": "asked to"}]
    assert running.fields("ruleset-drift") == running.fields("ruleset-load-failed") == []
    assert "goto c_broker" in running.listed(), "the ruleset goes with the service"


def test_a_second_start_finds_nothing_wrong_either(running: NetworkDevice) -> None:
    running.stop()
    running.start().stop()
    assert running.fields("ruleset-drift") == []
    assert len(running.fields("ruleset-loaded")) == 2


def broker_at(address: str) -> Element:
    """The element that lets the uplink begin a connection to a broker at `address`."""
    elements = conduit_elements(everything(), {"broker": (address,)})
    return next(element for element in elements if element.chain == "c_broker")


FILLED, STRANGER = broker_at("192.168.20.9"), broker_at("192.168.20.66")
CHANGES: list[tuple[str, str]] = [
    (
        "insert rule inet edgeseal input tcp dport 22 accept",
        "chain inet edgeseal input: rule added: tcp dport 22 accept",
    ),
    (
        "add chain inet edgeseal back { type filter hook output priority -1; }",
        "chain inet edgeseal back added",
    ),
    (
        "chain inet edgeseal forward { policy accept; }",
        "chain inet edgeseal forward: `type filter hook forward priority 0; policy accept;` instead of "
        "`type filter hook forward priority 0; policy drop;`",
    ),
    (
        f"delete element inet edgeseal {FILLED.map} {{ {FILLED.key_text()} }}",
        f"map inet edgeseal {FILLED.map}: element removed: {FILLED.text()}",
    ),
    (
        f"add element inet edgeseal {FILLED.map} {{ {STRANGER.text()} }}",
        f"map inet edgeseal {FILLED.map}: element added: {STRANGER.text()}",
    ),
    ("flush chain inet edgeseal c_broker", "chain inet edgeseal c_broker: rule removed: counter accept"),
    ("delete table inet edgeseal", "table inet edgeseal removed"),
    ("flush ruleset", "table arp edgeseal removed; table inet edgeseal removed"),
    ("add table ip foreign", "table ip foreign added"),
    (
        "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; "
        "add rule ip nat out masquerade",
        "table ip nat added",
    ),
    ("add table inet edgeseal { flags dormant; }", "table inet edgeseal: setting added: flags dormant"),
    ("add set inet edgeseal more { type ipv4_addr; }", "set inet edgeseal more added"),
    ("add counter inet edgeseal more", "counter inet edgeseal more added"),
    (
        'insert rule inet edgeseal input counter accept comment "a; b } { c"',
        'chain inet edgeseal input: rule added: counter accept comment "a; b } { c"',
    ),
]


@pytest.mark.parametrize("half", [0, 1], ids=["first-half", "second-half"])
def test_a_change_is_told_and_undone(running: NetworkDevice, half: int) -> None:
    """In halves: of ten at once each has a line of its own in the audit log."""
    before = running.listed()
    for number, (change, words) in enumerate(CHANGES[half::2], 1):
        running.nft(change + "\n")
        told = running.wait_for("ruleset-drift", number)
        assert words in str(told["differences"])
        assert re.fullmatch(r"nft \(process \d+\)", str(told["by"])), told["by"]
        assert int(running.wait_for("ruleset-restored", number)["milliseconds"]) < 5000
        assert plain(running.listed()) == plain(before), change
    assert len(running.fields("ruleset-drift")) == len(CHANGES[half::2])


def plain(listing: str) -> str:
    """Without what the packets of a test count."""
    return re.sub(r"packets \d+ bytes \d+", "", listing)


def test_a_rule_that_reads_as_before_is_found_by_its_bytecode(running: NetworkDevice) -> None:
    """nft leaves out what it takes as implied: `ether type ip`, which never matches on the way out, is not shown."""
    line = "ip saddr @self4 goto x_in-spoofed"
    handle = re.search(rf"{line} # handle (\d+)", running.nft("list chain inet edgeseal from_uplink0\n", "--handle"))
    assert handle is not None
    before = running.listed()
    running.nft(f"replace rule inet edgeseal from_uplink0 handle {handle[1]} ether type ip {line}\n")
    told = running.wait_for("ruleset-drift")
    assert told["differences"] == "inet edgeseal from_uplink0: reads as before, but its bytecode is another"
    running.wait_for("ruleset-restored")
    assert plain(running.listed()) == plain(before)


def test_the_wrong_control_group_is_taken_out(running: NetworkDevice) -> None:
    running.start_unit("inference")
    running.nft('add element inet edgeseal cg_uplink { "system.slice/edgeseal-inference.service" }\n')
    told = running.wait_for("ruleset-drift")
    assert 'set inet edgeseal cg_uplink: element added: "system.slice/edgeseal-inference.service"' in str(
        told["differences"]
    )
    running.wait_for("ruleset-restored")
    elements = re.search(r"set cg_uplink \{[^}]*elements = \{([^}]*)\}", running.listed())
    assert elements is not None
    assert elements[1].strip() == '"system.slice/edgeseal-uplink.service"'


def test_a_unit_that_starts_again_is_no_drift(running: NetworkDevice) -> None:
    """systemd takes the old control group out of its set and puts the new one in: as here, one after the other."""
    path = running.cgroups / "system.slice/edgeseal-uplink.service"
    running.nft('delete element inet edgeseal cg_uplink { "system.slice/edgeseal-uplink.service" }\n')
    path.rmdir()
    time.sleep(0.5)
    path.mkdir()
    running.nft('add element inet edgeseal cg_uplink { "system.slice/edgeseal-uplink.service" }\n')
    time.sleep(3)
    running.stop()
    assert running.fields("ruleset-drift") == []


def test_what_was_changed_before_it_started_is_told(device: NetworkDevice) -> None:
    device.load_as_at_boot()
    device.nft("insert rule inet edgeseal output accept\n")
    device.start()
    told = device.wait_for("ruleset-drift")
    assert told["differences"] == "chain inet edgeseal output: rule added: accept"
    assert "\t\taccept\n" not in device.listed()


def test_without_the_site_the_slots_stay_closed(device: NetworkDevice) -> None:
    device.load_as_at_boot()
    device.start()
    [loaded] = [device.wait_for("ruleset-loaded")]
    assert loaded["closed"] == 2
    assert ": goto c_broker" not in device.listed()
    assert device.fields("slot-filled") == device.fields("slots-refused") == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "site network: Input data was truncated"),
        (
            encode_site_network(SiteNetwork(schema=1, slots={"broker": ("192.168.20.200",)})),
            "site network: slot `broker`: `192.168.20.200` is outside its bounds (192.168.20.0/25)",
        ),
        (
            encode_site_network(SiteNetwork(schema=1, slots={"broker": ("192.168.20.5",), "other": ("192.168.20.6",)})),
            "site network: slot `other`: the policy has no such slot",
        ),
    ],
    ids=["no-json", "out-of-bounds", "no-such-slot"],
)
def test_a_bad_file_of_the_site_fills_nothing(device: NetworkDevice, data: bytes, reason: str) -> None:
    device.load_as_at_boot()
    device.site_says(data)
    device.start()
    assert device.wait_for("slots-refused") == {"reason": reason}
    assert ": goto c_broker" not in device.listed()


def test_a_ruleset_that_cannot_be_loaded_leaves_the_device_closed(device: NetworkDevice) -> None:
    assert device.reaches_itself()
    device.load_as_at_boot()
    device.ruleset.write_bytes(device.ruleset.read_bytes().replace(b"goto x_in-spoofed", b"goto nowhere"))
    device.launch()
    assert device.end() == 1
    [told] = device.fields("ruleset-load-failed")
    assert "No such file or directory" in str(told["reason"])
    listed = device.listed()
    assert "table inet edgeseal_closed" in listed
    assert "accept" not in listed
    assert not device.reaches_itself(), "loopback is open"


def test_a_load_that_failed_at_boot_is_told_later(device: NetworkDevice) -> None:
    device.start()
    assert device.wait_for("ruleset-load-failed")["reason"] == "it was not in force when the service started"
    assert device.wait_for("ruleset-loaded")["closed"] == 2


def test_drops_are_told_with_their_reason(running: NetworkDevice) -> None:
    running.link_up("uplink0", "192.168.20.10/24")
    for port in (502, 502, 502, 503):
        running.send_udp("192.168.20.99", port)
    told = running.wait_for("conduit-drop")
    assert told == {
        "reason": "out-wrong-service",
        "interface": "uplink0",
        "protocol": "udp",
        "source": "192.168.20.10",
        "destination": "192.168.20.99",
        "port": 502,
        "count": 3,
        "untold": 0,
    }
    assert running.wait_for("conduit-drop", 2)["port"] == 503


def test_a_flood_is_counted_and_does_not_drown_anything(running: NetworkDevice) -> None:
    running.link_up("uplink0", "192.168.20.10/24")
    before = running.processor_s()
    running.send_udp("192.168.20.99", 502, packets=20_000)
    running.wait_for("conduit-drop")
    used = running.processor_s() - before
    running.nft("add table ip foreign\n")
    assert running.wait_for("ruleset-drift")["differences"] == "table ip foreign added"
    assert len(running.fields("conduit-drop")) <= 21
    assert used < 2.0, f"{used} s of processor time"


def test_a_full_buffer_is_counted_and_the_service_goes_on(running: NetworkDevice) -> None:
    """The kernel tells of more drops than the buffer holds, while the service gets no processor time."""
    running.link_up("uplink0", "192.168.20.10/24")
    with running.halted():
        running.nft('insert rule inet edgeseal x_out-wrong-service log prefix "edgeseal flood " group 3 snaplen 96\n')
        running.send_udp("192.168.20.99", 502, packets=20_000)
    running.wait_for("ruleset-restored")
    wait_until(lambda: after_one_more(running) > 1000, "the gap")
    wait_until(
        lambda: "out-wrong-service" in {told["reason"] for told in running.fields("conduit-drop")}, "the last one"
    )


def after_one_more(device: NetworkDevice) -> int:
    """Drops that no entry tells of. The kernel's numbers show a gap at the next packet that it tells of."""
    device.send_udp("192.168.20.99", 503)
    return sum(int(told["untold"]) for told in device.fields("conduit-drop"))


def test_who_fights_gets_a_share_of_the_processor_and_a_few_lines(running: NetworkDevice) -> None:
    """A process changes the ruleset as fast as it can."""
    before, started = running.processor_s(), time.monotonic()
    with running.fighter("add table ip foreign\n"):
        time.sleep(5)
        assert running.processor_s() - before < CREDIT_S + 0.4 * (time.monotonic() - started)
    wait_until(lambda: "foreign" not in running.listed(), "the last word")
    assert 1 <= len(running.fields("ruleset-drift")) <= BURST + 1
    assert running.stop() == 0


def test_it_says_so_when_another_process_has_the_log_of_drops(device: NetworkDevice) -> None:
    device.load_as_at_boot()
    with device.listener_of_drops():
        device.start()
        assert (
            device.wait_for("drops-unseen")["reason"]
            == "group 3 of the packet log: the packet filter refused a request: Operation not permitted"
        )
        device.nft("add table ip foreign\n")
        device.wait_for("ruleset-restored")
