"""A TUF repository made with python-tuf's Metadata API, and an HTTP server for it, which may misbehave on order.

The repository is files in a dictionary, path -> bytes, as a static server would have them; what is not published is not
served. The server is real: sockets, threads, HTTP/1.1 with ranges, TLS when asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

T0 = 1_782_900_000
"""Wednesday 2026-07-01 10:00 UTC: when the repositories of the tests are made."""

TOP = ("targets", "snapshot", "timestamp", "root")
DAY = 86_400


def at(seconds: int) -> datetime:
    """A moment of metadata."""
    return datetime.fromtimestamp(seconds, UTC)


class Repository:
    """What a vendor or a site signs. Change `roles[...]`, then publish(); `files` is what a server has.

    with_hashes: snapshot and timestamp name lengths and hashes of metadata too.
    """

    def __init__(self, *, expires: int = T0 + 365 * DAY, with_hashes: bool = False) -> None:
        moment = at(expires)
        self.with_hashes = with_hashes
        self.files: dict[str, bytes] = {}
        self.roles: dict[str, Metadata[Any]] = {
            "root": Metadata(Root(expires=moment)),
            "targets": Metadata(Targets(expires=moment)),
            "snapshot": Metadata(Snapshot(expires=moment)),
            "timestamp": Metadata(Timestamp(expires=moment)),
        }
        self.signers: dict[str, list[Signer]] = {}
        for role in TOP:
            self.rotate(role)
        self.publish(*TOP, bump=False)

    @property
    def root(self) -> Root:
        """The next root."""
        return cast("Root", self.roles["root"].signed)

    @property
    def targets(self) -> Targets:
        """The next top-level targets."""
        return cast("Targets", self.roles["targets"].signed)

    @property
    def snapshot(self) -> Snapshot:
        """The next snapshot."""
        return cast("Snapshot", self.roles["snapshot"].signed)

    @property
    def timestamp(self) -> Timestamp:
        """The next timestamp."""
        return cast("Timestamp", self.roles["timestamp"].signed)

    def rotate(self, role: str, *, count: int = 1, threshold: int = 1, keep: bool = False) -> None:
        """Give a top-level role new keys, `count` of them. keep: the old keys go on signing (for a root)."""
        new: list[Signer] = [CryptoSigner.generate_ed25519() for _ in range(count)]
        self.set_keys(role, new, threshold=threshold, also=self.signers.get(role, []) if keep else [])

    def set_keys(self, role: str, keys: list[Signer], *, threshold: int, also: list[Signer] | None = None) -> None:
        """A top-level role's keys and threshold; they sign from now on, and `also` does."""
        described = self.root.roles[role]
        for keyid in list(described.keyids):
            self.root.revoke_key(keyid, role)
        described.threshold = threshold
        for signer in keys:
            self.root.add_key(signer.public_key, role)
        self.signers[role] = [*keys, *(also or [])]

    def delegate(self, parent: str, name: str, *, threshold: int = 1, signer: Signer | None = None, **how: Any) -> None:
        """A delegation, last in `parent`. how: of DelegatedRole; paths=["*"] when it says nothing."""
        how = {"terminating": False, **(how or {"paths": ["*"]})}
        if "paths" not in how and "path_hash_prefixes" not in how:
            how["paths"] = ["*"]
        targets: Targets = self.roles[parent].signed
        if targets.delegations is None:
            targets.delegations = Delegations({}, roles={})
        assert targets.delegations.roles is not None
        targets.delegations.roles[name] = DelegatedRole(name, [], threshold, **how)
        if name not in self.roles:
            self.roles[name] = Metadata(Targets(expires=self.targets.expires))
            self.signers[name] = [signer or CryptoSigner.generate_ed25519()]
        for each in self.signers[name]:
            targets.add_key(each.public_key, name)

    def add(self, role: str, path: str, data: bytes) -> None:
        """A target of `role`; served at once under its hash, named once the role is published."""
        target = TargetFile.from_data(path, data, ["sha256"])
        self.roles[role].signed.targets[path] = target
        self.files[self.target_path(path, data)] = data

    def target_path(self, path: str, data: bytes) -> str:
        """Where the server has a target of these bytes."""
        folder, slash, file = path.rpartition("/")
        prefix = f"{hashlib.sha256(data).hexdigest()}." if self.root.consistent_snapshot else ""
        return f"targets/{folder}{slash}{prefix}{file}"

    def publish(self, *roles: str, bump: bool = True) -> None:
        """Sign and serve, in the order given; each next file names what was signed before it."""
        for role in roles:
            metadata = self.roles[role]
            if bump:
                metadata.signed.version += 1
            self.sign(role)
            data = metadata.to_bytes()
            version = metadata.signed.version
            named = MetaFile(version)
            if self.with_hashes:
                named = MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})
            if role == "snapshot":
                self.timestamp.snapshot_meta = named
            elif role not in ("root", "timestamp"):
                self.snapshot.meta[f"{role}.json"] = named
            self.files[self.metadata_path(role, version)] = data

    def release(self, *roles: str) -> None:
        """publish() of `roles`, then of targets, snapshot and timestamp."""
        self.publish(*roles, "targets", "snapshot", "timestamp")

    def sign(self, role: str) -> None:
        """With all that role's signers."""
        self.roles[role].signatures.clear()
        for signer in self.signers[role]:
            self.roles[role].sign(signer, append=True)

    def metadata_path(self, role: str, version: int) -> str:
        """Where the server has a role's metadata."""
        prefix = "" if role == "timestamp" or not (self.root.consistent_snapshot or role == "root") else f"{version}."
        return f"metadata/{prefix}{quote(role, '')}.json"

    def trusted_root(self, version: int = 1) -> bytes:
        """What a device is given."""
        return self.files[f"metadata/{version}.root.json"]

    def rotations(self, count: int) -> None:
        """`count` new roots, each with a new root key."""
        for _ in range(count):
            old = self.signers["root"]
            self.rotate("root", keep=True)
            self.publish("root")
            self.signers["root"] = [each for each in self.signers["root"] if each not in old]

    def renew(self, expires: int) -> None:
        """Every role holds until then, once it is published."""
        for metadata in self.roles.values():
            metadata.signed.expires = at(expires)


Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection. `server` is a Site."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Site

    def do_GET(self) -> None:
        path = self.path.removeprefix("/")
        self.server.asked.append(path)
        self.server.ranges.append(self.headers.get("Range"))
        answer = self.server.answers.get(path)
        if answer is not None:
            answer(self)
        elif path in self.server.files:
            self.give(self.server.files[path])
        else:
            self.say(404, b"no such file\n")

    def give(self, data: bytes) -> None:
        """The file, or the part of it that was asked for."""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if found is None:
            self.say(200, data)
            return
        first, last = int(found[1]), min(int(found[2]), len(data) - 1)
        self.say(206, data[first : last + 1], **{"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def say(self, status: int, data: bytes, **headers: str) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self) -> None:
        """End the connection without another word."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_words: object) -> None:
        """Nobody reads it."""


class Site(ThreadingHTTPServer):
    """A static server of `files`. answers: path -> what is done instead. asked: the paths, in order. ended: set when
    the tests are over, so that a slow answer need not be waited for. connections: how many there were.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, files: dict[str, bytes], context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.ranges: list[str | None] = []
        self.ended = threading.Event()
        self.connections = 0
        self.scheme = "http" if context is None else "https"
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        """Base address."""
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what the tests are about."""


@contextlib.contextmanager
def serve(files: dict[str, bytes], context: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A running server of `files`, which may change while it runs."""
    site = Site(files, context)
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.ended.set()
        site.shutdown()
        site.server_close()
        thread.join(10)


def endless(site: Site, *, announce: int | None = None) -> Answer:
    """An answer that never ends; announce: a Content-Length, else chunks."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        if announce is None:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(announce))
        handler.end_headers()
        piece = b" " * 4096
        with contextlib.suppress(OSError):
            while not site.ended.is_set():
                handler.wfile.write(piece if announce is not None else b"1000\r\n" + piece + b"\r\n")
        handler.close_connection = True

    return answer


def dripping(site: Site, data: bytes, *, every_s: float, headers_too: bool = False) -> Answer:
    """An answer of one byte at a time. headers_too: they as well."""

    def answer(handler: Handler) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        slow = head + data if headers_too else data
        with contextlib.suppress(OSError):
            if not headers_too:
                handler.connection.sendall(head)
            for byte in slow:
                if site.ended.wait(every_s):
                    break
                handler.connection.sendall(bytes([byte]))
        handler.close_connection = True

    return answer


def days(count: int) -> timedelta:
    """For `expires`."""
    return timedelta(days=count)
