"""`edgeseal demo`: from nothing to verdicts. Builds a virtual device, boots it, shows it labels, hears what it says."""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.core.errors import EdgesealError, InputError, Place
from builder.cli.build import make_order
from builder.cli.command import Command
from builder.cli.lock import write_lock
from builder.host.paths import keys_directory
from builder.host.progress import say, step
from builder.host.sandbox import Sandbox
from builder.host.toolstree import default_pool, vm_tree
from builder.lock.store import lock_path
from builder.model.labels import render
from builder.pipeline import build
from builder.review.manifest import Manifest
from builder.signing.keyinit import init_keys
from builder.signing.keyset import KeySet, load_keys
from builder.vm.boot_stages import wait_for_services
from builder.vm.broker import Broker
from builder.vm.historian import Historian
from builder.vm.machine import Connections, VirtualMachine
from builder.vm.session import power_off, running, scratch_directory
from builder.vm.site import Site, make_site
from builder.vm.state import Wanted, make_state
from builder.vm.verdict_table import Judged, VerdictTable

PROFILE = "virtual-x86_64"
DEVICE_ID = "demo-1"
_SEED = 1
_FONTS = "usr/share/fonts/truetype"
_BOOT_S = 900.0
_FRAME_S = 300.0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=12, metavar="N", help="how many labels to show (default: 12)")
    parser.add_argument("--out", type=Path, default=Path("out") / PROFILE, metavar="DIR", help="where the build goes")
    parser.add_argument("--offline", action="store_true", help="never use the network")


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.frames < 1:
        raise InputError("at least one frame is needed", place=Place("--frames"))
    started = time.monotonic()
    keys = development_keys(keys_directory() / "dev", now=datetime.now(UTC))
    for name in ("tools", "vm", PROFILE):
        if not lock_path(name).exists():
            write_lock(name)
    order = make_order(PROFILE, lock=None, image_version=None, release=False)
    manifest = build(order, keys, arguments.out, pool=default_pool(), offline=arguments.offline)
    built = time.monotonic()
    tree = vm_tree(offline=arguments.offline)
    with scratch_directory() as scratch:
        site = make_site(scratch / "site", device_id=DEVICE_ID, now=datetime.now(UTC))
        with Broker(scratch / "broker", site, tree) as broker, Historian(broker) as historian:
            say(f"a broker listens on 127.0.0.1:{broker.port}, TLS 1.3 with certificates on both sides")
            judged, booted = _run(
                scratch, arguments.out.resolve(), manifest, keys, site, broker, historian, tree, frames=arguments.frames
            )
    return _result(arguments.out, manifest, judged, build_s=built - started, boot_s=booted - built)


def development_keys(directory: Path, *, now: datetime) -> KeySet:
    """The development keys, made when there are none."""
    if not (directory / "keys.json").exists():
        with step("make development keys"):
            init_keys(directory, development=True, now=now)
    return load_keys(directory)


def _run(
    scratch: Path,
    out: Path,
    manifest: Manifest,
    keys: KeySet,
    site: Site,
    broker: Broker,
    historian: Historian,
    tree: Sandbox,
    *,
    frames: int,
) -> tuple[list[Judged], float]:
    """Boot, show the frames, shut down. The verdicts, and when the services were up."""
    wanted = Wanted(manifest.architecture, keys, tpm=True, credentials=site.credentials(), name=DEVICE_ID)
    with step("make a machine: empty TPM, firmware with our keys, Secure Boot on"):
        state = make_state(scratch / "state", wanted, out / "disk.raw", tree)
    connections = Connections(broker_port=broker.port)
    with running(scratch / "machine", state, tree, connections) as machine:
        machine.agent  # noqa: B018 (connected now, so that its hello is not missed)
        wait_for_services(machine, within_s=_BOOT_S)
        booted = time.monotonic()
        judged = _show_frames(machine, historian, tree.root / _FONTS, frames)
        with step("shut the device down"):
            machine.agent.wait_for_hello(within_s=_FRAME_S)
            power_off(machine)
    return judged, booted


def _show_frames(machine: VirtualMachine, historian: Historian, fonts: Path, frames: int) -> list[Judged]:
    judged = []
    with VerdictTable() as table:
        for index in range(frames):
            label = render(index, seed=_SEED, fonts=fonts)
            machine.frames.send(label.frame(index), within_s=_FRAME_S)
            while True:
                verdict = historian.next(within_s=_FRAME_S, check=machine.require_alive).verdict
                if verdict is not None and verdict.frame_sequence == str(index):
                    break
            judged.append(Judged(index, label.truth, verdict))
            table.add(judged[-1])
    return judged


def _result(out: Path, manifest: Manifest, judged: list[Judged], *, build_s: float, boot_s: float) -> dict[str, Any]:
    if not judged:
        raise EdgesealError("no verdict arrived")
    return {
        "directory": str(out),
        "root_hash": manifest.root_hash,
        "development": manifest.development,
        "frames": len(judged),
        "right": sum(item.right for item in judged),
        "median_latency_us": int(statistics.median(item.verdict.latency_us for item in judged)),
        "build_seconds": round(build_s, 1),
        "boot_seconds": round(boot_s, 1),
        "model_sha256": judged[0].verdict.model_sha256,
    }


def _render(result: dict[str, Any]) -> str:
    return "\n".join(
        (
            f"{result['frames']} labels shown, {result['frames']} verdicts received over MQTT, "
            f"{result['right']} right; median latency {result['median_latency_us'] / 1e6:.2f} s under emulation",
            f"build {result['build_seconds']} s, boot {result['boot_seconds']} s; root hash {result['root_hash']}",
            f"the image, its SBOM and its provenance are in {result['directory']}",
            f"next: edgeseal verify {result['directory']} · edgeseal inspect {result['directory']}",
        )
    )


COMMANDS = (
    Command(
        path=("demo",),
        help="build a virtual device, boot it under Secure Boot, and watch its verdicts arrive",
        arguments=_arguments,
        execute=_execute,
        render=_render,
    ),
)
