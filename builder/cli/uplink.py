"""`edgeseal uplink watch`: what arrives from devices, and what does not. How-to: docs/how-to/watch-the-uplink.md."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from appliance.core.errors import InputError, Place
from builder.cli.command import Command
from builder.cli.uplink_prove import PROVE, SCHEMA
from builder.uplink import state
from builder.uplink.subscriber import RECEIVE_MAXIMUM, Access, Subscriber
from builder.uplink.table import LiveTable, as_text
from builder.uplink.watch import Watch

_KEEP_S = 0.5


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", metavar="HOST", help="the broker's name or address, as in its certificate")
    parser.add_argument("--port", type=int, default=8883, metavar="PORT", help="default: 8883")
    parser.add_argument("--ca", type=Path, required=True, metavar="FILE", help="PEM; the site's CA, and no other")
    parser.add_argument("--certificate", type=Path, required=True, metavar="FILE", help="PEM; who we are")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="PEM; its key")
    parser.add_argument("--client-id", default="edgeseal-watch", metavar="NAME", help="default: edgeseal-watch")
    parser.add_argument("--topic", action="append", metavar="FILTER", help="what to listen to (default: everything)")
    parser.add_argument("--state", type=Path, metavar="FILE", help="go on from there, and keep the counts there")
    parser.add_argument("--receipts", action="store_true", help="tell devices what has arrived, as a historian does")
    parser.add_argument("--joined", action="store_true", help="devices were sending before: do not ask for the past")
    parser.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end then (default: at Ctrl-C)")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two reports")
    parser.add_argument(
        "--check", action="store_true", help="exit 1 when something is missing, disordered or unreadable"
    )


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.interval <= 0:
        raise InputError("an interval is longer than nothing", place=Place("--interval"))
    access = Access(
        arguments.host,
        arguments.port,
        arguments.ca,
        arguments.certificate,
        arguments.key,
        arguments.client_id,
        tuple(arguments.topic or ("#",)),
        kept=arguments.state is not None,
    )
    watch = state.load(arguments.state, joined=arguments.joined, limit=RECEIVE_MAXIMUM)
    subscriber = Subscriber(access, lambda heard: watch.take(heard, time.monotonic()))
    subscriber.connect()
    try:
        _follow(watch, subscriber, arguments)
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        _keep(watch, subscriber, arguments)
        subscriber.close()
    return _report(watch) | {"whole": watch.whole, "check": arguments.check}


def _follow(watch: Watch, subscriber: Subscriber, arguments: argparse.Namespace) -> None:
    begun = reported = kept = time.monotonic()
    with LiveTable(f"{arguments.host}:{arguments.port}", quiet=arguments.json) as table:
        while arguments.seconds is None or time.monotonic() - begun < arguments.seconds:
            subscriber.step()
            now = time.monotonic()
            if subscriber.waiting >= RECEIVE_MAXIMUM // 2 or now - kept >= _KEEP_S:
                _keep(watch, subscriber, arguments)
                kept = now
            if now - reported >= arguments.interval:
                reported = now
                table.show(watch.rows(now), unreadable=watch.unreadable)
                if arguments.json:
                    sys.stdout.write(json.dumps(_report(watch), ensure_ascii=False) + "\n")
                    sys.stdout.flush()


def _keep(watch: Watch, subscriber: Subscriber, arguments: argparse.Namespace) -> None:
    """First to the disk, then to the broker and the devices."""
    if not subscriber.unkept:
        return
    if arguments.state is not None:
        state.save(arguments.state, watch)
    subscriber.acknowledge()
    if arguments.receipts:
        subscriber.say(watch.receipts())


def _report(watch: Watch) -> dict[str, Any]:
    return {
        "streams": watch.rows(time.monotonic()),
        "unreadable": watch.unreadable,
        "last_fault": watch.last_fault,
    }


def _render(result: dict[str, Any]) -> str:
    lines = [as_text(result["streams"])] if result["streams"] else ["no message has arrived"]
    if result["unreadable"]:
        lines.append(f"unreadable: {result['unreadable']}, the last one: {result['last_fault']}")
    return "\n".join(lines)


COMMANDS = (
    PROVE,
    SCHEMA,
    Command(
        path=("uplink", "watch"),
        help="count what arrives from devices: missing, twice, late, out of order",
        arguments=_arguments,
        execute=_execute,
        render=_render,
        exit_code=lambda result: int(result["check"] and not result["whole"]),
        lines=True,
    ),
)
