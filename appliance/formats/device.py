"""The device part of a profile, sealed into the image as one canonical JSON file.

Spec: docs/specs/device-config.md (v1). Path in the image: /usr/lib/edgeseal/device.json. The builder's Profile
embeds `DeviceConfig`, so there is one definition. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.core.canonical import canonical_json
from appliance.core.errors import DecodeError

DEVICE_CONFIG_PATH = "/usr/lib/edgeseal/device.json"

Identifier = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,62}(?!\n)$", description="lower-case identifier")]
ProfileName = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,62}(?!\n)$", description="a profile's file name")
]
Topic = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*(?!\n)$", max_length=200)]
Sha256Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]


class FrozenStruct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every decoded value: immutable, unknown keys refused."""


class FrameSource(FrozenStruct, frozen=True, kw_only=True):
    """Where frames come from.

    kind `virtio`: the channel /dev/virtio-ports/edgeseal.frames.0 of a virtual profile; `v4l2`: a camera device node.
    """

    kind: Literal["virtio", "v4l2"]
    device: Annotated[str, msgspec.Meta(pattern=r"^/dev/[A-Za-z0-9/._-]+(?!\n)$")] = (
        "/dev/virtio-ports/edgeseal.frames.0"
    )
    width: Annotated[int, msgspec.Meta(ge=16, le=8192, description="pixels")] = 640
    height: Annotated[int, msgspec.Meta(ge=16, le=8192, description="pixels")] = 480


class InferenceConfig(FrozenStruct, frozen=True, kw_only=True):
    """The inference service: which model judges which source, and how long it may take."""

    model: Identifier
    source: FrameSource
    execution_provider: Literal["cpu", "openvino", "qnn", "xnnpack"] = "cpu"
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=600_000, description="per frame")] = 30_000


class UplinkConfig(FrozenStruct, frozen=True, kw_only=True):
    """The uplink service: MQTT 5 over mutual TLS. The broker's address comes from the site, as a credential."""

    topic: Topic
    spool_bytes: Annotated[int, msgspec.Meta(ge=1 << 20, description="budget of the spool on disk")] = 64 << 20
    receive_maximum: Annotated[int, msgspec.Meta(ge=1, le=1000, description="messages in flight")] = 20
    keepalive_s: Annotated[int, msgspec.Meta(ge=5, le=3600)] = 30


class AuditConfig(FrozenStruct, frozen=True, kw_only=True):
    """The audit log's budget on disk."""

    log_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 64 << 20


class HealthConfig(FrozenStruct, frozen=True, kw_only=True):
    """The gate before a boot counts as good."""

    deadline_s: Annotated[int, msgspec.Meta(ge=10, le=3600)] = 300
    require_broker: bool = False


class UpdateConfig(FrozenStruct, frozen=True, kw_only=True):
    """The update service. Where the repositories are comes from the site, as credentials."""

    check_interval_s: Annotated[int, msgspec.Meta(ge=10, le=7 * 86_400)] = 3600
    retry_min_s: Annotated[int, msgspec.Meta(ge=1, le=3600, description="first pause after a failure")] = 10
    retry_max_s: Annotated[int, msgspec.Meta(ge=1, le=86_400, description="longest pause after a failure")] = 3600
    bandwidth: Annotated[int, msgspec.Meta(ge=0, le=1 << 30, description="bytes per second; 0 for no cap")] = 0
    stall_s: Annotated[int, msgspec.Meta(ge=1, le=3600, description="longest wait for the next bytes")] = 60
    slowest: Annotated[int, msgspec.Meta(ge=1, le=1 << 20, description="bytes per second; slower is an attack")] = 200
    tries: Annotated[int, msgspec.Meta(ge=1, le=9, description="boots that a new version gets")] = 3
    root_rotations: Annotated[int, msgspec.Meta(ge=1, le=10_000, description="in one check")] = 1024
    root_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 24)] = 512_000
    timestamp_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 24)] = 16_384
    snapshot_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 26)] = 2_000_000
    targets_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 26)] = 5_000_000
    model_bytes: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 40, description="budget of models on disk")] = (
        128 << 20
    )


class DeviceConfig(FrozenStruct, frozen=True, kw_only=True):
    """All that the services on the device are told by the profile."""

    schema: Literal[1] = 1
    product: Identifier
    profile: ProfileName
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    security_epoch: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    development: bool
    models: tuple[Identifier, ...] = ()
    inference: InferenceConfig
    uplink: UplinkConfig
    audit: AuditConfig = AuditConfig()
    health: HealthConfig = HealthConfig()
    update: UpdateConfig = UpdateConfig()
    usb_classes: tuple[Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{2}(?!\n)$")], ...] = ()


def encode_device_config(config: DeviceConfig) -> bytes:
    """The canonical bytes of `config`."""
    return canonical_json(msgspec.to_builtins(config))


def decode_device_config(data: bytes) -> DeviceConfig:
    """Raises DecodeError on anything but exactly the canonical bytes of a DeviceConfig."""
    try:
        config = msgspec.json.decode(data, type=DeviceConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DecodeError(f"device configuration: {error}") from error
    if encode_device_config(config) != data:
        raise DecodeError("device configuration: not in canonical form")
    return config
