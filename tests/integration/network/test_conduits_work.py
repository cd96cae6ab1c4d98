"""Every conduit carries what it is for: real sockets, with the service's user in its cgroup, and hosts in the zones."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.formats.network_policy import DEVICE_ZONE, LOOPBACK_ZONE, Conduit
from tests.support.netlab import Lab, in_prefixes, lab
from tests.support.netlab_cases import NAMES, UIDS, case
from tests.support.netlab_station import Identity, Remote
from tests.support.netlab_sweep import Sweeper

SECONDS = 3.0
HOST = Identity(0, None)
SERVED = b"the answer, " * 400
ICMP_KINDS = {4: (socket.AF_INET, socket.IPPROTO_ICMP, 8), 6: (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128)}


@pytest.mark.parametrize("name", NAMES)
def test_every_conduit_carries_its_traffic(name: str) -> None:
    made = case(name, rate=None)
    with lab(made.policy, uids=UIDS, filled=made.filled) as built:
        built.introduce()
        Sweeper(built, deaf=False).load(made.ruleset)
        tried = [
            f"{one.id} {begins} -> {answers}" for one in made.policy.conduits for begins, answers in _try(built, one)
        ]
    print(f"{name}: {len(tried)} pairs of hosts: {'; '.join(tried)}")
    flows = [one.id for one in made.policy.conduits if one.ports or "echo-request" in one.messages]
    assert {line.split()[0] for line in tried} == set(flows)


def _try(built: Lab, conduit: Conduit) -> Iterator[tuple[str, str]]:
    """Each pair of hosts of the conduit, after it has been used."""
    for begins, answers in _pairs(built, conduit):
        if conduit.protocol == "tcp":
            _tcp(built, conduit, begins, answers)
        elif conduit.protocol == "udp":
            _udp(built, conduit, begins, answers)
        elif "echo-request" in conduit.messages:
            _echo(built, conduit, begins, answers)
        else:
            return
        yield begins, answers


def _pairs(built: Lab, conduit: Conduit) -> Iterator[tuple[str, str]]:
    if conduit.from_zone == LOOPBACK_ZONE:
        yield from (("127.0.0.1", "127.0.0.1"), ("::1", "::1"))
        return
    peers = (*conduit.peers, *built.filled.get(conduit.slot or "", ()))
    if DEVICE_ZONE not in (conduit.from_zone, conduit.to_zone):
        for begins in _hosts(built, conduit.from_zone, peers):
            yield from ((begins, answers) for answers in _hosts(built, conduit.to_zone, conduit.targets))
        return
    outward = conduit.from_zone == DEVICE_ZONE
    zone = conduit.to_zone if outward else conduit.from_zone
    for host in _hosts(built, zone, peers):
        own = built.device_address(built.zone(zone).link, ipaddress.ip_address(host).version)
        assert own is not None
        yield (own, host) if outward else (host, own)


def _hosts(built: Lab, zone: str, peers: tuple[str, ...]) -> list[str]:
    return [host for host in built.hosts[zone] if in_prefixes(host, peers)]


def _stations(built: Lab, conduit: Conduit) -> tuple[tuple[Remote, Identity], tuple[Remote, Identity]]:
    """Who begins and who answers."""
    service = built.service(conduit.service or "kernel")
    if conduit.from_zone == LOOPBACK_ZONE:
        return (built.device, service), (built.device, built.service(conduit.listener or "kernel"))
    ends = [
        (built.device, service) if zone == DEVICE_ZONE else (built.zones[zone], HOST)
        for zone in (conduit.from_zone, conduit.to_zone)
    ]
    return ends[0], ends[1]


@contextmanager
def _open(station: Remote, who: Identity, address: str, kind: int, port: int, listen: bool = False) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    number = station.open(who, family, kind)
    try:
        station.bind(number, (address, port), listen)
        yield number
    finally:
        station.close(number)


def _tcp(built: Lab, conduit: Conduit, begins: str, answers: str) -> None:
    """Connect, data both ways, and the end of the connection arrives, though the socket it comes from is gone."""
    (here, client), (there, server) = _stations(built, conduit)
    for port in _ports(conduit):
        where = f"{conduit.id}: {begins} -> {answers} port {port}"
        with _open(there, server, answers, socket.SOCK_STREAM, port, listen=True) as listening:
            used = here.open(client, socket.AF_INET6 if ":" in begins else socket.AF_INET, socket.SOCK_STREAM)
            here.bind(used, (begins, 0))
            assert here.connect(used, (answers, port), SECONDS), f"{where}: no connection"
            taken = there.accept(listening, SECONDS)
            assert taken is not None, f"{where}: connected, but not accepted"
            assert here.send(used, SERVED) and _all(there, taken) == SERVED, f"{where}: the question is lost"
            assert there.send(taken, SERVED) and _all(here, used) == SERVED, f"{where}: the answer is lost"
            here.close(used)
            assert there.receive(taken, SECONDS) == (b"", None), f"{where}: nobody learns that it is over"
            there.close(taken)


def _udp(built: Lab, conduit: Conduit, begins: str, answers: str) -> None:
    (here, client), (there, server) = _stations(built, conduit)
    for port in _ports(conduit):
        where = f"{conduit.id}: {begins} -> {answers} port {port}"
        with (
            _open(there, server, answers, socket.SOCK_DGRAM, port) as served,
            _open(here, client, begins, socket.SOCK_DGRAM, 0) as used,
        ):
            assert here.send(used, b"query", (answers, port)), f"{where}: the query does not leave"
            query = there.receive(served, SECONDS)
            assert query is not None and query[0] == b"query", f"{where}: the query does not arrive"
            assert there.send(served, b"answer", query[1]), f"{where}: the answer does not leave"
            answer = here.receive(used, SECONDS)
            assert answer is not None and answer[0] == b"answer", f"{where}: the answer does not arrive"


def _echo(built: Lab, conduit: Conduit, begins: str, answers: str) -> None:
    (here, client), _ = _stations(built, conduit)
    family, protocol, request = ICMP_KINDS[ipaddress.ip_address(begins).version]
    number = here.open(client, family, socket.SOCK_DGRAM, protocol)
    here.bind(number, (begins, 0))
    assert here.send(number, bytes([request, 0, 0, 0, 0, 0, 0, 1]) + b"ping", (answers, 0)), (
        f"{conduit.id}: does not leave"
    )
    answer = here.receive(number, SECONDS)
    assert answer is not None and answer[0].endswith(b"ping"), f"{conduit.id}: {answers} does not answer"
    here.close(number)


def _ports(conduit: Conduit) -> list[int]:
    """The first and the last one of each."""
    ends = [(str(port).partition("-")[0], str(port).rpartition("-")[2]) for port in conduit.ports]
    return sorted({int(port) for pair in ends for port in pair})


def _all(station: Remote, number: int) -> bytes:
    data = b""
    while len(data) < len(SERVED) and (more := station.receive(number, SECONDS)) and more[0]:
        data += more[0]
    return data
