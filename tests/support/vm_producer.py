"""A producer inside a device that hands in verdicts as fast as the uplink takes them, and writes down what it was told.

It runs as the inference service's user, on the uplink's own socket, until the power goes. What stands in ACKED was
acknowledged before the write to that file was durable, so it must survive.
"""

from __future__ import annotations

from appliance.formats.identities import CLIENTS_GROUP, USERS
from appliance.formats.uplink_message import UPLINK_SOCKET
from builder.vm.deadline import IN_GUEST_S, wait_until
from tests.support.machine import Machine

ACKED = "/var/lib/acked"
PIPELINED = 64
"""Answers that are written down together; the last ones may not be durable yet when the power goes."""

_SOURCE = f"""
import os
open({ACKED!r}, "w").close()
os.fsync(os.open("/var/lib", os.O_RDONLY))
child = os.fork()
if child == 0:
    try:
        os.setsid()
        os.closerange(0, 256)
        acked = os.open({ACKED!r}, os.O_WRONLY | os.O_APPEND)
        os.setgroups([{CLIENTS_GROUP[1]}])
        os.setgid({USERS["edgeseal-inference"]})
        os.setuid({USERS["edgeseal-inference"]})
        import json, socket
        uplink = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        uplink.connect({UPLINK_SOCKET!r})
        verdict = {{
            "schema": 1, "device": DEVICE, "boot_id": "0" * 32, "start_us": 1, "sequence": 1,
            "frame_sequence": "1", "frame_sha256": "0" * 64, "label": "180", "score_ppm": 900000,
            "model": "label-orientation", "model_sha256": "0" * 64, "execution_provider": "cpu",
            "latency_us": 1, "monotonic_us": 1,
        }}
        number = 0
        while True:
            for _ in range({PIPELINED}):
                number += 1
                verdict["sequence"] = number
                uplink.send(json.dumps({{"kind": "verdict", "id": number, "verdict": verdict}}).encode())
            lines = b""
            for _ in range({PIPELINED}):
                answer = json.loads(uplink.recv(65536))
                if answer["kind"] == "accepted":
                    lines += b"%d %d\\n" % (answer["sequence"], answer["id"])
            os.write(acked, lines)
            os.fsync(acked)
    finally:
        os._exit(0)
result = child
"""


def start_producer(machine: Machine, device: str) -> None:
    """Let it run beside whatever the test does next."""
    machine.python(f"DEVICE = {device!r}\n{_SOURCE}")


def wait_for_acknowledged(machine: Machine, count: int, *, within_s: float) -> None:
    """Until it was told of so many."""
    wait_until(
        lambda: machine.read(ACKED).count(b"\n") >= count,
        what=f"{count} verdicts were accepted",
        within_s=within_s,
        check=machine.vm.require_alive,
        every_s=IN_GUEST_S,
    )


def acknowledged_by(machine: Machine) -> dict[int, int]:
    """sequence of the stream -> number of the verdict, of everything that it had written down."""
    lines = machine.read(ACKED).decode().split("\n")[:-1]
    return {int(sequence): int(number) for sequence, number in (line.split() for line in lines)}
