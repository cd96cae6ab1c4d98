"""edgeseal audit collect: rebuild devices' logs from what the broker passes on, cosign them, raise alarms."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from appliance.core.errors import InputError
from appliance.formats.signed_note import VerifierKey
from builder.audit.alarms import Alarm
from builder.audit.collector import Collector, status_of
from builder.audit.crypto import load_witness_key
from builder.audit.subscription import Subscription
from builder.audit.witness import Witness
from builder.cli.audit_keys import read_vkeys
from builder.cli.command import Command
from builder.host.progress import say

_PAUSE_S = 1.0


def logs_of(texts: list[str]) -> dict[str, list[VerifierKey]]:
    """origin -> keys, of --vkey options; keys of epochs are announced in the logs and not needed. Raises InputError."""
    logs: dict[str, list[VerifierKey]] = {}
    for key in (key for text in texts for key in read_vkeys(text)):
        if not key.name.endswith("/epoch"):
            logs.setdefault(key.name, []).append(key)
    if not logs:
        raise InputError("no key of a log was given", hint="give --vkey for every device's log")
    return logs


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="gets DEVICE/LOG/ for every log, and alarms/")
    parser.add_argument("--broker", metavar="HOST:PORT", required=True, help="the site's broker, MQTT 5 over TLS 1.3")
    parser.add_argument("--ca", metavar="FILE", type=Path, required=True, help="authority of the broker's certificate")
    parser.add_argument("--certificate", metavar="FILE", type=Path, required=True, help="the collector's own")
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="its private key")
    parser.add_argument("--namespace", metavar="TOPIC", required=True, help="the levels before DEVICE/audit")
    parser.add_argument("--vkey", metavar="VKEY", action="append", default=[], help="a log's key, or a file of keys")
    parser.add_argument(
        "--witness-key", metavar="FILE", type=Path, required=True, help="the private key to cosign with"
    )
    parser.add_argument("--witness-state", metavar="DIR", type=Path, help="what was cosigned; default: DIR/witness")
    parser.add_argument("--silence", metavar="SECONDS", type=int, default=3600, help="alarm after this; default 3600")
    parser.add_argument("--alarm-topic", metavar="TOPIC", help="publish alarms there, too")
    parser.add_argument("--client-id", metavar="NAME", default="edgeseal-collector", help="names the broker's session")
    parser.add_argument("--for", dest="seconds", metavar="SECONDS", type=float, help="end after this; default: never")


def _collect(arguments: argparse.Namespace) -> dict[str, Any]:
    directory: Path = arguments.directory
    logs = logs_of(arguments.vkey)
    key = load_witness_key(arguments.witness_key)
    directory.mkdir(parents=True, exist_ok=True)
    witness = Witness(key, arguments.witness_state or directory / "witness", logs)
    subscription = Subscription(
        _address(arguments.broker),
        authority=arguments.ca,
        certificate=arguments.certificate,
        key=arguments.key,
        topic=f"{arguments.namespace}/+/audit",
        client_id=arguments.client_id,
    )
    with subscription:

        def tell(alarm: Alarm) -> None:
            sys.stdout.write(alarm.line())
            sys.stdout.flush()
            if arguments.alarm_topic:
                subscription.publish(arguments.alarm_topic, alarm.line())

        collector = Collector(directory, logs, witness, silence_s=arguments.silence, told=tell, now=int(time.time()))
        say(f"collecting {len(logs)} logs from {arguments.broker}")
        _run(collector, subscription, arguments.seconds)
        return collector.status()


def _run(collector: Collector, subscription: Subscription, seconds: float | None) -> None:
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        message = subscription.next(
            within_s=_PAUSE_S if end is None else max(0.0, min(_PAUSE_S, end - time.monotonic()))
        )
        now = int(time.time())
        if message is not None:
            size = collector.take(message.topic, message.payload, now=now)
            subscription.acknowledge(message)
            if size is not None:
                say(f"{message.topic}: {size} entries")
        collector.look_for_silence(now=now)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"--broker: `{text}` is not HOST:PORT")
    return host.strip("[]"), int(port)


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="of a collector")


def _status(arguments: argparse.Namespace) -> dict[str, Any]:
    if not (arguments.directory / "seen").is_dir():
        raise InputError(f"{arguments.directory} is not the directory of a collector")
    return status_of(arguments.directory)


def _render(result: dict[str, Any]) -> str:
    lines = [f"{one['device']}/{one['log']}: {one['size']} entries" for one in result["logs"]]
    lines += [f"ALARM {one['kind']} {one['device']}/{one['log']}: {one['text']}" for one in result["alarms"]]
    return "\n".join([*lines, f"{len(result['alarms'])} alarms stand"])


def _code(result: dict[str, Any]) -> int:
    return 1 if result["alarms"] else 0


COLLECT = (
    Command(
        ("audit", "collect"),
        "rebuild, verify and cosign devices' logs from the broker; raise alarms",
        _arguments,
        _collect,
        _render,
        _code,
    ),
    Command(
        ("audit", "collect", "status"),
        "tell the logs of a collector, and its alarms; exits 1 when one stands",
        _status_arguments,
        _status,
        _render,
        _code,
    ),
)
