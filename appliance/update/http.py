"""A repository on an HTTP server. Spec: docs/specs/repository.md. The only module that imports urllib3.

One connection. No redirect, proxy, cookie, compression or environment variable has a say; what comes is not trusted.
https asks for TLS 1.3 and a certificate that the given authority signed for the host; the dates in certificates are
not looked at, because a device has no clock that anybody vouches for (docs/adr/0015).
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)
from urllib3.exceptions import SSLError as TlsError
from urllib3.response import BaseHTTPResponse

from appliance.core.errors import InputError
from appliance.formats.device import UpdateConfig
from appliance.formats.release import Content
from appliance.update.http_rules import check_answer, cut, runs
from appliance.update.pace import SpeedGuard, TokenBucket, backoff
from appliance.update.ranges import ByteRange
from appliance.update.transport import (
    InterruptedTransferError,
    TooMuchDataError,
    TooSlowError,
    TransportError,
)

PIECE = 16 << 10  # bytes that are read at once: small, so that a bandwidth cap is even
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL; Python has no name for it
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "edgeseal-update"}


@dataclass(frozen=True)
class Surroundings:
    """What a transfer takes from outside. clock: monotonic seconds. draw: evenly from [0, 1)."""

    clock: Callable[[], float]
    sleep: Callable[[float], None]
    draw: Callable[[], float]


class HttpSource:
    """FileSource and ContentSource over one server.

    url: base address, http: or https:, no query. ca: PEM of the only authorities that may sign the server's
    certificate; https needs it. attempts: how often the same bytes are asked for in a row, 1 or more, with pauses
    between (retry_min_s, retry_max_s); in read() any progress starts the count anew. bucket: sources may share one.
    Raises InputError on an address or authority that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        ca: bytes | None,
        config: UpdateConfig,
        attempts: int,
        around: Surroundings,
        bucket: TokenBucket | None,
    ) -> None:
        self._name = name
        self._config = config
        self._attempts = attempts
        self._around = around
        self._bucket = bucket
        self._kept = False
        self._deadline = _Deadline(around.clock)
        self._pool, self._base = _open_pool(url, ca, name, self._deadline, timeout_s=config.stall_s)

    def get(self, path: str, *, at_most: int) -> bytes:
        """As FileSource says. Slower than the configuration's `slowest` is TooSlowError."""
        guard = self._guard()
        failed = 0
        while True:
            try:
                return b"".join(self._transfer(path, guard, at_most=at_most))
            except InterruptedTransferError as error:
                failed += 1
                self._pause(failed, guard, error)

    def read(self, content: Content, ranges: Sequence[ByteRange]) -> Iterator[bytes]:
        """As ContentSource says. Ranges that touch are one request; a broken transfer goes on where it stopped."""
        for part in ranges:
            if part.length < 1 or part.offset < 0 or part.offset + part.length > content.size:
                raise InputError(f"{content.path}: bytes {part.offset}+{part.length} of {content.size}")
        for run in runs(ranges):
            span = ByteRange(run[0].offset, sum(part.length for part in run))
            yield from cut(self._resumed(content, span), run)

    def close(self) -> None:
        """Hang up."""
        self._pool.close()

    def _guard(self) -> SpeedGuard:
        return SpeedGuard(slowest=self._config.slowest, grace_s=2 * self._config.stall_s)

    def _resumed(self, content: Content, span: ByteRange) -> Iterator[bytes]:
        guard = self._guard()
        done = failed = 0
        while done < span.length:
            rest = ByteRange(span.offset + done, span.length - done)
            try:
                for piece in self._transfer(content.path, guard, at_most=rest.length, span=rest, size=content.size):
                    done += len(piece)
                    failed = 0
                    yield piece
            except InterruptedTransferError as error:
                failed += 1
                self._pause(failed, guard, error)

    def _pause(self, failed: int, guard: SpeedGuard, error: InterruptedTransferError) -> None:
        if failed >= self._attempts:
            raise error
        config = self._config
        pause_s = backoff(failed, first_s=config.retry_min_s, longest_s=config.retry_max_s, draw=self._around.draw())
        guard.note(waited_s=pause_s)  # else a server that hangs up after each byte is never too slow
        self._around.sleep(pause_s)

    def _transfer(
        self, path: str, guard: SpeedGuard, *, at_most: int, span: ByteRange | None = None, size: int | None = None
    ) -> Iterator[bytes]:
        """One request, its answer's body as it comes: `at_most` bytes or fewer; with a span exactly that span."""
        part = span if span is not None and span.length != size else None
        response = self._ask(path, guard, part)
        finished = False
        try:
            check_answer(f"{self._name}: {path}", response.status, response.headers, part, size)
            announced = self._announced(path, response, at_most)
            received = 0
            while piece := self._next(path, response, guard):
                received += len(piece)
                if received > at_most:
                    raise TooMuchDataError(f"{self._name}: {path}: more than the {at_most} bytes that are allowed")
                self._throttle(len(piece))
                yield piece
            if received < (at_most if span is not None else announced):
                wanted = at_most if span is not None else announced
                raise InterruptedTransferError(f"{self._name}: {path}: it ended after {received} of {wanted} bytes")
            finished = True
            self._kept = response.version >= 11 and response.headers.get("Connection", "").lower() != "close"
        finally:
            if not finished:
                response.close()  # whatever else it wanted to send is not read
            response.release_conn()

    def _announced(self, path: str, response: BaseHTTPResponse, at_most: int) -> int:
        text = response.headers.get("Content-Length")
        if text is None:
            return 0
        if not re.fullmatch(r"[0-9]{1,19}", text):
            raise TransportError(f"{self._name}: {path}: a Content-Length that is no number")
        if int(text) > at_most:
            raise TooMuchDataError(
                f"{self._name}: {path}: {int(text)} bytes are announced, at most {at_most} are allowed"
            )
        return int(text)

    def _ask(self, path: str, guard: SpeedGuard, span: ByteRange | None) -> BaseHTTPResponse:
        kept, self._kept = self._kept, False
        try:
            return self._request(path, guard, span)
        except InterruptedTransferError:
            if not kept:
                raise
            return self._request(path, guard, span)  # the server had hung up on a connection that it once kept open

    def _request(self, path: str, guard: SpeedGuard, span: ByteRange | None) -> BaseHTTPResponse:
        headers = dict(_HEADERS)
        if span is not None:
            headers["Range"] = f"bytes={span.offset}-{span.offset + span.length - 1}"
        with self._waiting(path, guard, nothing="no answer"):
            return self._pool.urlopen(
                "GET",
                f"{self._base}/{path}",
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )

    def _next(self, path: str, response: BaseHTTPResponse, guard: SpeedGuard) -> bytes:
        with self._waiting(path, guard) as wait:
            piece = response.read1(PIECE, decode_content=False) or b""
            wait.received = len(piece)
        return piece

    def _waiting(self, path: str, guard: SpeedGuard, *, nothing: str = "no byte") -> _Wait:
        config = self._config
        slow = f"slower than {config.slowest} bytes per second"
        return _Wait(
            f"{self._name}: {path}",
            self._pool,
            guard,
            self._deadline,
            stall_s=config.stall_s,
            slow=slow,
            stalled=f"{nothing} for {config.stall_s} s",
        )

    def _throttle(self, received: int) -> None:
        if self._bucket is not None:
            pause_s = self._bucket.delay(received, now=self._around.clock())
            if pause_s > 0:
                self._around.sleep(pause_s)


class _Deadline:
    """When the wait that is going on must end. Sockets look at it before every read."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.at = 0.0

    def left_s(self) -> float:
        """More than 0, because 0 would mean not to wait at all."""
        return max(0.001, self.at - self.clock())


class _Wait:
    """One wait for the other side: bounded by the deadline, counted by the guard, its faults told in our words."""

    def __init__(
        self,
        what: str,
        pool: urllib3.HTTPConnectionPool,
        guard: SpeedGuard,
        deadline: _Deadline,
        *,
        stall_s: float,
        slow: str,
        stalled: str,
    ) -> None:
        self._what = what
        self._pool = pool
        self._guard = guard
        self._deadline = deadline
        self._stall_s = stall_s
        self._slow = slow
        self._stalled = stalled
        self.received = 0

    def __enter__(self) -> _Wait:
        left_s = self._guard.left_s
        if left_s <= 0:
            raise TooSlowError(f"{self._what}: {self._slow}")
        self._fault = self._stalled if left_s > self._stall_s else self._slow
        self._start = self._deadline.clock()
        self._deadline.at = self._start + min(self._stall_s, left_s)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._guard.note(waited_s=self._deadline.clock() - self._start, received=self.received)
        if isinstance(error, ReadTimeoutError | TimeoutError):
            raise TooSlowError(f"{self._what}: {self._fault}") from error
        if isinstance(error, HTTPError | OSError):
            raise _explained(self._what, self._pool, error) from error


class _PacedSocket(socket.socket):
    """A TCP socket that reads until the deadline, not until a time after the last byte."""

    deadline: _Deadline

    def recv_into(self, *args: Any, **options: Any) -> int:
        self.settimeout(self.deadline.left_s())
        return super().recv_into(*args, **options)


class _PacedTlsSocket(ssl.SSLSocket):
    """The same with TLS, once the handshake is done."""

    deadline: _Deadline | None = None

    def recv_into(self, *args: Any, **options: Any) -> int:
        if self.deadline is not None:
            self.settimeout(self.deadline.left_s())
        return super().recv_into(*args, **options)


class _Connection(HTTPConnection):
    def __init__(self, *args: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        timeout_s = self.sock.gettimeout()
        paced = _PacedSocket(fileno=self.sock.detach())
        paced.settimeout(timeout_s)
        paced.deadline = self._deadline
        self.sock = paced


class _TlsConnection(HTTPSConnection):
    def __init__(self, *args: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        if not isinstance(self.sock, _PacedTlsSocket):
            raise RuntimeError("this urllib3 makes its TLS sockets elsewhere")
        self.sock.deadline = self._deadline


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _open_pool(
    url: str, ca: bytes | None, name: str, deadline: _Deadline, *, timeout_s: float
) -> tuple[urllib3.HTTPConnectionPool, str]:
    try:
        address = urllib3.util.parse_url(url)
    except LocationParseError as error:
        raise InputError(f"{name}: {url!r} is not an address") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise InputError(f"{name}: {url!r} is not an http: or https: address")
    if address.auth or address.query is not None or address.fragment is not None:
        raise InputError(f"{name}: {url!r}: only scheme, host, port and path are allowed")
    common: dict[str, Any] = {
        "timeout": urllib3.Timeout(timeout_s),
        "maxsize": 1,
        "block": True,
        "retries": False,
        "deadline": deadline,
    }
    base = (address.path or "").rstrip("/")
    if address.scheme == "http":
        return _Pool(address.host, address.port, **common), base
    if ca is None:
        raise InputError(
            f"{name}: {url!r} needs the authority that signed the server's certificate",
            hint="give its PEM as the credential edgeseal.update-ca",
        )
    return _TlsPool(address.host, address.port, ssl_context=_tls_context(ca, name), **common), base


def _tls_context(ca: bytes, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name; knows no authority yet
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= _NO_CHECK_TIME
    context.sslsocket_class = _PacedTlsSocket
    try:
        context.load_verify_locations(cadata=ca.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise InputError(f"{name}: the authority for https is not a PEM certificate") from error
    return context


def _explained(what: str, pool: urllib3.HTTPConnectionPool, error: HTTPError | OSError) -> TransportError:
    where = f"{pool.host}:{pool.port}"
    if isinstance(error, NameResolutionError):
        return InterruptedTransferError(f"{what}: {pool.host} cannot be resolved")
    if isinstance(error, TlsError):
        cause = error.args[0] if error.args else error
        said = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or str(cause)
        return TransportError(f"{what}: no TLS with {where}: {said}")
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return InterruptedTransferError(f"{what}: {where} does not answer")
    if isinstance(error, NewConnectionError):
        why = error.__cause__ if isinstance(error.__cause__, OSError) else None
        return InterruptedTransferError(f"{what}: no connection to {where}: {_os_reason(why)}")
    return InterruptedTransferError(f"{what}: the connection was lost")


def _os_reason(error: OSError | None) -> str:
    return (error.strerror or str(error)).lower() if error is not None else "refused"
