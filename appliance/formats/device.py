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
TopicLevel = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,63}(?!\n)$", description="one level of a topic")]
PrimaryHost = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,63}(?!\n)$", description="data waits until it is online; empty for none"),
]
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


class Namespace(FrozenStruct, frozen=True, kw_only=True):
    """Where the device stands in the plant's unified namespace: the levels of its topics, from the top (ISA-95).

    The site may say it better, by the credential edgeseal.namespace; a level that is not used is left out.
    """

    enterprise: TopicLevel
    site: TopicLevel
    area: TopicLevel | None = None
    line: TopicLevel | None = None
    cell: TopicLevel | None = None

    @property
    def topic(self) -> str:
        """The levels, as the beginning of a topic."""
        return "/".join(level for level in (self.enterprise, self.site, self.area, self.line, self.cell) if level)


class LaneConfig(FrozenStruct, frozen=True, kw_only=True):
    """How much one lane may hold and for how long, and what it takes of the link while others wait.

    share: weight among the lanes that have something to send; the alarm lane goes before all and has none.
    expiry_s: age at which a message is not sent any more; 0 for never.
    """

    bytes: Annotated[int, msgspec.Meta(ge=64 << 10, description="budget on disk")]
    full: Annotated[Literal["refuse", "drop-oldest"], msgspec.Meta(description="when the budget is used up")] = "refuse"
    expiry_s: Annotated[
        int,
        msgspec.Meta(ge=0, le=10 * 366 * 86_400, description="age at which a message is not sent any more; 0: never"),
    ] = 0
    share: Annotated[int, msgspec.Meta(ge=1, le=100, description="weight on the link while other lanes wait")] = 50


class DataLaneConfig(LaneConfig, frozen=True, kw_only=True):
    """Live and backlog: the same stream, before and after a connection began.

    share: of live data; the backlog has backlog_share. batch: whether the backlog travels in compressed batches.
    """

    backlog_share: Annotated[int, msgspec.Meta(ge=1, le=100, description="weight of the backlog")] = 50
    batch: Annotated[bool, msgspec.Meta(description="the backlog travels in compressed batches")] = True


class SparkplugConfig(FrozenStruct, frozen=True, kw_only=True):
    """Names in Sparkplug B 3.0: the group that the device is a node of, and the host application that must be there."""

    group: TopicLevel
    primary_host: PrimaryHost = ""


class UplinkConfig(FrozenStruct, frozen=True, kw_only=True):
    """The uplink service: MQTT 5 over mutual TLS. The broker's address comes from the site, as a credential.

    delivery: what ends a message's life in the spool: the broker's PUBACK, or the historian's receipt.
    powered_off: whether hours without power count towards expiry when nobody can tell how many they were.
    """

    namespace: Namespace
    payload: Annotated[Literal["json", "sparkplug-b"], msgspec.Meta(description="form of topics and payloads")] = "json"
    sparkplug: SparkplugConfig | None = None
    delivery: Annotated[
        Literal["broker", "historian"], msgspec.Meta(description="whose word ends a message's life in the spool")
    ] = "broker"
    receipt_s: Annotated[int, msgspec.Meta(ge=5, le=86_400, description="wait for a receipt, then send again")] = 120
    alarm: LaneConfig = LaneConfig(bytes=4 << 20)
    data: DataLaneConfig = DataLaneConfig(bytes=56 << 20)
    audit: LaneConfig = LaneConfig(bytes=4 << 20, share=20)
    powered_off: Annotated[
        Literal["unaged", "expired"], msgspec.Meta(description="hours without power that nobody could count")
    ] = "unaged"
    receive_maximum: Annotated[int, msgspec.Meta(ge=1, le=1000, description="messages in flight")] = 50
    keepalive_s: Annotated[int, msgspec.Meta(ge=5, le=3600)] = 30
    return_s: Annotated[int, msgspec.Meta(ge=60, le=86_400, description="then the first broker is tried again")] = 600
    renew_percent: Annotated[int, msgspec.Meta(ge=10, le=90, description="of the certificate's life")] = 66

    @property
    def spool_bytes(self) -> int:
        """What all lanes together may hold on disk."""
        return self.alarm.bytes + self.data.bytes + self.audit.bytes


class AuditConfig(FrozenStruct, frozen=True, kw_only=True):
    """The audit log.

    full: what happens when the budget is used up. epoch: how long one epoch key signs.
    """

    log_bytes: Annotated[int, msgspec.Meta(ge=8 << 20, description="budget on disk")] = 64 << 20
    full: Literal["overwrite-oldest", "stop-control-plane", "halt"] = "overwrite-oldest"
    epoch: Literal["boot", "day"] = "boot"
    sender_rate: Annotated[int, msgspec.Meta(ge=1, le=100_000, description="events a second of one service")] = 200
    sender_burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 2000


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
