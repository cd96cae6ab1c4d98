"""The channel to the test agent of development images. Spec: docs/specs/agent-channel.md (v1).

Never in a release image. Each message is four bytes, its length as an unsigned big-endian number, and that many bytes
of UTF-8 JSON. The host asks with consecutive ids, one request at a time; the device answers with the same id.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from appliance.core.errors import DecodeError
from appliance.formats.device import FrozenStruct
from appliance.formats.framing import LengthPrefixed

AGENT_PORT = "/dev/virtio-ports/edgeseal.agent.0"
AGENT_PORT_NAME = "edgeseal.agent.0"
MAX_MESSAGE = 64 << 20

RequestId = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=3600)]
Arguments = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1024)]


class Run(FrozenStruct, frozen=True, kw_only=True, tag="run", tag_field="kind"):
    """Start a program as root and wait for its end. argv[0] is an absolute path or a name in PATH."""

    id: RequestId
    argv: Arguments
    timeout_s: Seconds = 60


class Python(FrozenStruct, frozen=True, kw_only=True, tag="python", tag_field="kind"):
    """Run Python source in the agent; what it leaves in `result` (JSON values only) comes back."""

    id: RequestId
    source: str


class Read(FrozenStruct, frozen=True, kw_only=True, tag="read", tag_field="kind"):
    """Read a whole file."""

    id: RequestId
    path: str


class Write(FrozenStruct, frozen=True, kw_only=True, tag="write", tag_field="kind"):
    """Write a whole file and fsync it. data_b64: its bytes in base64."""

    id: RequestId
    path: str
    data_b64: bytes
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] = 0o600


class Connect(FrozenStruct, frozen=True, kw_only=True, tag="connect", tag_field="kind"):
    """Open a TCP connection as a service would, and close it: as user `uid`, in the control group of `unit`.

    The result is `connected`, `no answer` after timeout_s, or the kernel's word for the refusal (ECONNREFUSED).
    """

    id: RequestId
    unit: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,62}\.service(?!\n)$")]
    uid: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    address: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    timeout_s: Annotated[int, msgspec.Meta(ge=1, le=60)] = 5


Request = Run | Python | Read | Write | Connect


class Hello(FrozenStruct, frozen=True, kw_only=True):
    """The first message of the device after each opening of the port. hello: version of this protocol.

    image_version: IMAGE_VERSION of os-release. slot: GPT label of the mounted root, `root-a` or `root-b`, else ''.
    """

    hello: Literal[1] = 1
    boot_id: str
    image_version: str
    slot: str


class Answer(FrozenStruct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to the request with this id.

    ok: the request was carried out (for `run`: the program was started and ended; look at rc).
    error: why not, when ok is false. stdout, stderr, data_b64: bytes in base64.
    """

    id: RequestId
    ok: bool
    rc: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    data_b64: bytes = b""
    result: object = None
    error: str = ""


def encode_agent_message(message: Request | Hello | Answer) -> bytes:
    """One message with its length prefix. Raises DecodeError when it is larger than MAX_MESSAGE."""
    data = msgspec.json.encode(message)
    if len(data) > MAX_MESSAGE:
        raise DecodeError(f"agent message: {len(data)} bytes, at most {MAX_MESSAGE} are allowed")
    return len(data).to_bytes(4, "big") + data


def agent_splitter() -> LengthPrefixed:
    """Cuts a byte stream into message bodies: feed() it what arrives, take() what is complete."""
    return LengthPrefixed("agent message", MAX_MESSAGE)


def decode_request(body: bytes) -> Request:
    """Raises DecodeError."""
    request: Request = _decode(body, Request)
    return request


def decode_from_device(body: bytes) -> Hello | Answer:
    """A message of the device is a Hello or an Answer. Raises DecodeError."""
    message: Hello | Answer = _decode(body, Hello if body.startswith(b'{"hello"') else Answer)
    return message


def _decode(body: bytes, kind: object) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"agent message: {error}") from error
