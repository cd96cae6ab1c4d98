"""`edgeseal run`: boot a build in QEMU. How-to: docs/how-to/run-in-a-vm.md."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.core.errors import EdgesealError, InputError, Place
from builder.cli.command import Command
from builder.host.paths import keys_directory
from builder.host.progress import say
from builder.host.toolstree import vm_tree
from builder.vm.broker import Broker
from builder.vm.config import HostForward
from builder.vm.machine import Connections, VirtualMachine
from builder.vm.opened import OpenedBuild, certificates_for, open_build
from builder.vm.repositories import Served, served
from builder.vm.session import persistent_state, power_off, running, scratch_directory
from builder.vm.site import emulated_peers, make_site
from builder.vm.state import MachineState, Wanted, make_state

INTERRUPTED = 130


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="what `edgeseal build` left")
    parser.add_argument("--tpm", action=argparse.BooleanOptionalAction, help="a TPM (default: on x86_64)")
    parser.add_argument("--no-secure-boot", action="store_true", help="firmware without keys: it checks nothing")
    parser.add_argument(
        "--keys", type=Path, metavar="DIR", help="the keys it was built with (default: by its manifest)"
    )
    parser.add_argument(
        "--persistent", action="store_true", help="write to disk.raw itself; keep TPM and firmware state"
    )
    parser.add_argument("--share", type=Path, metavar="DIR", help="show a directory as a read-only FAT disk `share`")
    parser.add_argument(
        "--forward", action="append", default=[], metavar="HOST:GUEST", help="a TCP port of this host's loopback"
    )
    parser.add_argument(
        "--broker-port",
        type=int,
        metavar="PORT",
        help="port on this host that the device reaches as its broker (default: a broker of a made-up site)",
    )
    parser.add_argument(
        "--credential", action="append", default=[], metavar="NAME=FILE", help="a site fact, such as edgeseal.broker-ca"
    )
    parser.add_argument("--vendor", type=Path, metavar="DIR", help="the vendor's repository, served to the device")
    parser.add_argument("--site", type=Path, metavar="DIR", help="the site's repository, served to the device")
    parser.add_argument("--group", action="append", default=[], metavar="NAME", help="a group that the device is in")
    parser.add_argument("--stick", type=Path, metavar="FILE", help="plug in an image from `edgeseal bundle apply`")
    parser.add_argument("--console", type=Path, metavar="FILE", help="write the console there, not to the terminal")
    parser.add_argument("--until", metavar="TEXT", help="end when the console says TEXT")
    parser.add_argument("--timeout", type=int, metavar="SECONDS", help="fail when it has not ended by then")
    parser.add_argument(
        "--kvm", action="store_true", help="use the host's virtualisation; it must have system management mode"
    )
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB", help="memory (default: 1024)")


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    build = open_build(arguments.directory)
    forwards = tuple(parse_forward(text) for text in arguments.forward)
    credentials = dict(parse_credential(text) for text in arguments.credential)
    share = _shared(arguments.share)
    wanted = _wanted(arguments, build)
    with scratch_directory() as scratch, _broker(arguments, scratch) as broker, _repositories(arguments) as updates:
        credentials = emulated_peers() | updates.credentials | credentials
        if broker is not None:
            credentials = broker.site.credentials() | credentials
        connections = Connections(
            broker_port=arguments.broker_port if broker is None else broker.port,
            host_forwards=forwards,
            share=share,
            services=updates.services,
            medium=_stick(arguments.stick),
            memory_mib=arguments.memory,
            accelerator="kvm" if arguments.kvm else "tcg",
        )
        state = _state(arguments, build, dataclasses.replace(wanted, credentials=credentials), scratch)
        say(f"{build.manifest.product} {build.manifest.version}: Ctrl-C ends it")
        started = time.monotonic()
        with running(scratch / "machine", state, vm_tree(), connections) as machine:
            ended = _follow(machine, arguments)
        return {
            "profile": build.manifest.profile,
            "version": build.manifest.version,
            "secure_boot": wanted.keys is not None,
            "tpm": wanted.tpm,
            "ended": ended,
            "seconds": round(time.monotonic() - started),
        }


@contextlib.contextmanager
def _broker(arguments: argparse.Namespace, scratch: Path) -> Iterator[Broker | None]:
    """The broker of a made-up site, unless the user has one."""
    if arguments.broker_port is not None:
        yield None
        return
    site = make_site(scratch / "site", device_id="run-1", now=datetime.now(UTC))
    with Broker(scratch / "broker", site, vm_tree()) as broker:
        yield broker


@contextlib.contextmanager
def _repositories(arguments: argparse.Namespace) -> Iterator[Served]:
    """Both, or none."""
    if (arguments.vendor is None) != (arguments.site is None):
        raise InputError("--vendor and --site go together: a device installs only what both name")
    if arguments.vendor is None:
        yield Served((), {})
        return
    with served(arguments.vendor, arguments.site, groups=tuple(arguments.group)) as both:
        yield both


def _stick(image: Path | None) -> Path | None:
    if image is not None and not image.is_file():
        raise InputError("there is no image of a stick", place=Place(str(image)), hint="edgeseal bundle apply DIR FILE")
    return None if image is None else image.resolve()


def _wanted(arguments: argparse.Namespace, build: OpenedBuild) -> Wanted:
    kind = "dev" if build.manifest.development else "release"
    directory = arguments.keys or keys_directory() / kind
    return Wanted(
        architecture=build.manifest.architecture,
        keys=None if arguments.no_secure_boot else certificates_for(build.manifest, directory),
        tpm=build.manifest.architecture == "x86_64" if arguments.tpm is None else arguments.tpm,
        name=f"edgeseal run {build.directory}",
    )


def _state(arguments: argparse.Namespace, build: OpenedBuild, wanted: Wanted, scratch: Path) -> MachineState:
    if arguments.persistent:
        return persistent_state(build.directory / "machine", wanted, build.disk, vm_tree())
    return make_state(scratch / "state", wanted, build.disk, vm_tree())


def _follow(machine: VirtualMachine, arguments: argparse.Namespace) -> str:
    """Show the console until something ends the run. Returns what."""
    shown = 0
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    try:
        machine.agent  # noqa: B018 (connected now, so that its hello is not missed)
        while True:
            text = machine.console.text()
            _show(text[shown:], arguments.console)
            shown = len(text)
            if arguments.until is not None and arguments.until in text:
                power_off(machine)
                return "until"
            if not machine.running:
                return _ending(machine)
            if deadline is not None and time.monotonic() > deadline:
                raise EdgesealError(f"the machine has not ended after {arguments.timeout} s")
            _listen(machine)
    except KeyboardInterrupt:
        say("ending the machine")
        power_off(machine)
        return "interrupt"


def _listen(machine: VirtualMachine) -> None:
    """Wait a little, and remember the agent's hello. The channel closes when the machine ends, which is no error."""
    try:
        machine.agent.poll()
    except EdgesealError:
        if not machine.wait_for_end(within_s=5):
            raise


def _ending(machine: VirtualMachine) -> str:
    if machine.exit_status:
        machine.require_alive()
    return "shutdown"


def _show(text: str, file: Path | None) -> None:
    if not text:
        return
    if file is None:
        sys.stderr.write(text)
        sys.stderr.flush()
        return
    try:
        with file.open("a") as stream:
            stream.write(text)
    except OSError as error:
        raise InputError(f"cannot write the console: {error.strerror}", place=Place(str(file))) from error


def parse_forward(text: str) -> HostForward:
    """`HOST:GUEST`, two TCP ports. Raises InputError."""
    host, colon, guest = text.partition(":")
    ports = [int(part) if part.isascii() and part.isdigit() else 0 for part in (host, guest)]
    if not colon or not all(1 <= port <= 65_535 for port in ports):
        raise InputError(f"--forward {text}: not two ports", hint="write HOST:GUEST, for example 8080:80")
    return HostForward(*ports)


def parse_credential(text: str) -> tuple[str, bytes]:
    """`NAME=FILE`: the credential's name and the file's bytes. Raises InputError."""
    name, equals, file = text.partition("=")
    if not equals or not name or not file or "/" in name:
        raise InputError(f"--credential {text}: not NAME=FILE", hint="for example edgeseal.device-id=id.txt")
    try:
        return name, Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read a credential: {error.strerror}", place=Place(file)) from error


def _shared(directory: Path | None) -> Path | None:
    if directory is not None and not directory.is_dir():
        raise InputError("there is no directory to share", place=Place(str(directory)))
    return None if directory is None else directory.resolve()


def _render(result: dict[str, Any]) -> str:
    words = {"shutdown": "it shut down", "until": "the console said it", "interrupt": "you ended it"}
    return f"{result['profile']} {result['version']}: {words[result['ended']]} after {result['seconds']} s"


COMMANDS = (
    Command(
        path=("run",),
        help="boot a build in QEMU, under Secure Boot and with a TPM",
        arguments=_arguments,
        execute=_execute,
        render=_render,
        exit_code=lambda result: INTERRUPTED if result["ended"] == "interrupt" else 0,
    ),
)
