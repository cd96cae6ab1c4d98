"""The hardware profile: what a person writes in profiles/NAME.yaml. Reference: docs/reference/profile.md (v1).

The shape only; what must hold between two keys is in check.py. The descriptions become the reference page and the
JSON schema that editors read.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.formats.device import (
    AuditConfig,
    DeviceConfig,
    FrozenStruct,
    HealthConfig,
    Identifier,
    InferenceConfig,
    ProfileName,
    UpdateConfig,
    UplinkConfig,
)
from appliance.formats.network_policy import Date, NetworkPolicy, Sentence

Architecture = Literal["x86_64", "arm64"]
HardwareClass = Literal["industrial-pc", "npu-gateway", "smart-camera", "virtual-x86_64", "virtual-arm64"]
MIB = 1 << 20

ModuleName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(?!\n)$", description="kernel module, no suffix")
]
PackageName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9+.-]+(?!\n)$", description="Debian package")]
WheelPin = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+(?!\n)$", description="NAME==VERSION")
]
MebiBytes = Annotated[int, msgspec.Meta(ge=1, le=1 << 22, description="MiB")]
Console = Annotated[str, msgspec.Meta(pattern=r"^tty[A-Z]+[0-9]+(?!\n)$")]
UsbClass = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{2}(?!\n)$")]
ModelFile = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._/-]+\.onnx(?!\n)$")]


class Hardware(FrozenStruct, frozen=True, kw_only=True):
    """The board. Nothing board-specific lives outside this part of a profile."""

    hardware_class: Annotated[
        HardwareClass, msgspec.Meta(description="What kind of device it is; decides what else may be said.")
    ]
    description: Annotated[Sentence, msgspec.Meta(description="The board, for a person.")]
    modules: Annotated[
        tuple[ModuleName, ...],
        msgspec.Meta(
            description="The whole allow-list of kernel modules in the root image; what they depend on is added."
        ),
    ]
    initrd_modules: Annotated[
        tuple[ModuleName, ...],
        msgspec.Meta(
            description="Modules that must be there before the root is mounted; what they depend on is added."
        ),
    ]
    firmware: Annotated[
        tuple[str, ...], msgspec.Meta(description="Files or directories below /usr/lib/firmware to keep.")
    ] = ()
    serial_console: Annotated[
        Console | None,
        msgspec.Meta(description="Kernel console for messages; nothing can be typed there."),
    ] = None
    usb_classes: Annotated[
        tuple[UsbClass, ...],
        msgspec.Meta(description="Two-digit USB interface classes that are authorised, quoted; others are refused."),
    ] = ()
    tpm: Annotated[
        Literal["required", "absent"],
        msgspec.Meta(
            description="`required` binds the data partition to the TPM; `absent` leaves it plain, and the evidence "
            "says so."
        ),
    ] = "required"
    watchdog_s: Annotated[
        int, msgspec.Meta(ge=10, le=3600, description="Seconds of silence after which the hardware watchdog resets.")
    ] = 120


class ModelSource(FrozenStruct, frozen=True, kw_only=True):
    """A model taken from a pinned wheel."""

    name: Annotated[Identifier, msgspec.Meta(description="By which name the device knows it.")]
    wheel: Annotated[WheelPin, msgspec.Meta(description="The wheel that holds it, NAME==VERSION.")]
    file: Annotated[ModelFile, msgspec.Meta(description="Path of the model inside the wheel.")]
    labels: Annotated[tuple[str, ...], msgspec.Meta(description="What each output class is called, in its order.")]


class Software(FrozenStruct, frozen=True, kw_only=True):
    """What is in the image beside the base that every device has."""

    distribution: Annotated[Literal["debian/trixie"], msgspec.Meta(description="Where Debian packages come from.")] = (
        "debian/trixie"
    )
    packages: Annotated[tuple[PackageName, ...], msgspec.Meta(description="Debian packages beyond the base.")] = ()
    wheels: Annotated[
        tuple[WheelPin, ...], msgspec.Meta(description="Python wheels, each pinned; nothing else is pulled in.")
    ]
    models: Annotated[tuple[ModelSource, ...], msgspec.Meta(description="Models sealed into the image.")]


class Disk(FrozenStruct, frozen=True, kw_only=True):
    """Sizes in MiB. Two root slots and two hash slots of equal size, one ESP, the rest is data."""

    esp: Annotated[MebiBytes, msgspec.Meta(description="EFI system partition: boot loader and three kernels.")] = 256
    root_slot: Annotated[MebiBytes, msgspec.Meta(description="One root slot; there are two.")] = 160
    verity_slot: Annotated[MebiBytes, msgspec.Meta(description="The hash tree of one root slot; there are two.")] = 8
    data_minimum: Annotated[MebiBytes, msgspec.Meta(description="Least size of the data partition.")] = 128
    total: Annotated[MebiBytes, msgspec.Meta(description="The disk; the data partition takes what is left.")] = 1024
    sector_size: Annotated[Literal[512], msgspec.Meta(description="Bytes in a logical sector.")] = 512


class Seal(FrozenStruct, frozen=True, kw_only=True):
    """How the root is compressed; part of the profile so that no machine can change the bytes."""

    compressor: Annotated[Literal["zstd", "lz4hc"], msgspec.Meta(description="erofs compressor.")] = "zstd"
    level: Annotated[int, msgspec.Meta(ge=1, le=22, description="Its level; lz4hc has 12.")] = 9
    extent_bytes: Annotated[
        int, msgspec.Meta(ge=4096, le=1 << 20, description="Input bytes of one compressed extent, a power of two.")
    ] = 262144


class Development(FrozenStruct, frozen=True, kw_only=True):
    """What must never be in a release image. `edgeseal build --release` refuses a profile that has any of it."""

    test_agent: Annotated[
        bool, msgspec.Meta(description="A root agent on the virtio channel edgeseal.agent.0, for the VM tests.")
    ] = False


class Profile(FrozenStruct, frozen=True, kw_only=True):
    """One hardware profile."""

    schema: Annotated[Literal[1], msgspec.Meta(description="Version of this format.")]
    name: Annotated[ProfileName, msgspec.Meta(description="The file's name without `.yaml`.")]
    product: Annotated[Identifier, msgspec.Meta(description="What the device is sold as; releases belong to it.")]
    version: Annotated[
        int, msgspec.Meta(ge=1, le=2**31 - 1, description="Version of the image, strictly increasing per product.")
    ]
    security_epoch: Annotated[
        int,
        msgspec.Meta(ge=0, le=2**31 - 1, description="Raise it to shut out every version with a smaller one for ever."),
    ] = 0
    architecture: Annotated[Architecture, msgspec.Meta(description="The processor's.")]
    hardware: Annotated[Hardware, msgspec.Meta(description="The board.")]
    software: Annotated[Software, msgspec.Meta(description="What is in the image beside the base.")]
    disk: Annotated[Disk, msgspec.Meta(description="Sizes.")] = Disk()
    seal: Annotated[Seal, msgspec.Meta(description="Compression of the root.")] = Seal()
    network: Annotated[NetworkPolicy, msgspec.Meta(description="Links, zones and conduits.")]
    inference: Annotated[InferenceConfig, msgspec.Meta(description="Which model judges which source.")]
    uplink: Annotated[UplinkConfig, msgspec.Meta(description="Where verdicts go, and how many may wait.")]
    audit: Annotated[AuditConfig, msgspec.Meta(description="The audit log.")] = AuditConfig()
    health: Annotated[HealthConfig, msgspec.Meta(description="When a boot counts as good.")] = HealthConfig()
    update: Annotated[UpdateConfig, msgspec.Meta(description="How the device fetches updates.")] = UpdateConfig()
    timeout_s: Annotated[
        int,
        msgspec.Meta(ge=10, le=3600, description="Start timeout of units on the device; emulated machines need more."),
    ] = 90
    support_until: Annotated[
        Date | None,
        msgspec.Meta(description="Last day of security updates, YYYY-MM-DD."),
    ] = None
    security_contact: Annotated[
        str | None, msgspec.Meta(description="Where vulnerabilities are reported: mailto: or https: address.")
    ] = None
    development: Annotated[Development, msgspec.Meta(description="Never in a release.")] = Development()

    def device_config(self, *, development: bool) -> DeviceConfig:
        """development: the image is signed with development keys."""
        return DeviceConfig(
            product=self.product,
            profile=self.name,
            version=self.version,
            security_epoch=self.security_epoch,
            development=development,
            models=tuple(sorted(model.name for model in self.software.models)),
            inference=self.inference,
            uplink=self.uplink,
            audit=self.audit,
            health=self.health,
            update=self.update,
            usb_classes=tuple(sorted(self.hardware.usb_classes)),
        )
