"""Programs that we did not write, from Debian's packages: Go's sumdb, litewitness, ssh-agent."""

from __future__ import annotations

import functools
import os
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.host.toolstree import vm_tree
from tests.integration.services_harness import wait_until

GOCHECK = Path(__file__).parent / "gocheck" / "main.go"
NAME = "site.test/litewitness"
_GO = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "", "GOPROXY": "off", "CGO_ENABLED": "0"}
_DEADLINE_S = 120


@functools.cache
def _place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgeseal-test-go-")


@functools.cache
def gocheck() -> str:
    """The compiled program; once per process, in a directory that goes away with it."""
    place = Path(_place().name)
    environment = {**_GO, "PATH": os.environ["PATH"], "HOME": str(place), "GOCACHE": str(place / "cache")}
    subprocess.run(["go", "build", "-o", place / "gocheck", GOCHECK], env=environment, check=True, timeout=_DEADLINE_S)
    return str(place / "gocheck")


def run_go(*words: str | Path) -> tuple[int, str]:
    """Exit code, and what it said."""
    found = subprocess.run([gocheck(), *words], capture_output=True, text=True, timeout=_DEADLINE_S)
    return found.returncode, found.stdout + found.stderr


@dataclass(frozen=True)
class LiteWitness:
    """url: before /add-checkpoint. vkey: as it said at its start. log: what it says."""

    url: str
    vkey: str
    log: Path


@contextmanager
def litewitness(directory: Path, logs: dict[str, tuple[str, int, str]]) -> Iterator[LiteWitness]:
    """logs: origin -> vkey, and the tree that it has seen. directory: empty, with a short path: it holds a socket."""
    tree = vm_tree()
    database = directory / "witness.sqlite"
    for origin, (vkey, size, root) in logs.items():
        _control(directory, "add-log", "-db", database, "-origin", origin)
        _control(directory, "add-key", "-db", database, "-origin", origin, "-key", vkey)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE log SET tree_size = ?, tree_hash = ? WHERE origin = ?", (size, root, origin))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with _agent(directory) as (agent, fingerprint):
        command = tree.command(
            [
                "litewitness",
                "-db",
                database,
                "-ssh-agent",
                agent,
                "-key",
                fingerprint,
                "-name",
                NAME,
                "-listen",
                address,
            ],
            writable=[directory],
            network=True,
            # Debian builds it without go.mod, so with the routes of Go 1.21, where "POST /add-checkpoint" is a path.
            environment={"GODEBUG": "httpmuxgo121=0"},
        )
        log = directory / "litewitness.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        try:
            wait_until(lambda: process.poll() is not None or "listening" in log.read_text(), "litewitness to listen")
            assert process.poll() is None, log.read_text()
            yield LiteWitness(f"http://{address}", _said_key(log.read_text()), log)
        finally:
            process.kill()
            process.wait()


def _control(directory: Path, *words: str | Path) -> None:
    vm_tree().run(["witnessctl", *words], reason="configure litewitness", writable=[directory])


@contextmanager
def _agent(directory: Path) -> Iterator[tuple[Path, str]]:
    key, agent = directory / "key", directory / "agent"
    quiet = {"stdin": subprocess.DEVNULL, "check": True, "timeout": _DEADLINE_S, "capture_output": True}
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], **quiet)  # type: ignore[call-overload]
    with (directory / "agent.log").open("wb") as log:
        process = subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(agent.exists, "ssh-agent to listen")
        environment = {"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": str(agent)}
        subprocess.run(["ssh-add", "-q", key], env=environment, **quiet)  # type: ignore[call-overload]
        told = subprocess.run(["ssh-add", "-l"], env=environment, text=True, **quiet)  # type: ignore[call-overload]
        yield agent, told.stdout.split()[1]
    finally:
        process.kill()
        process.wait()


def _said_key(log: str) -> str:
    return log.split("vkey=")[1].split()[0]
