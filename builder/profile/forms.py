"""What each pattern of the profile means in words, for messages and the reference. A test holds it complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import inspect

from appliance.formats import device, network_policy
from builder.profile import types

_SOURCE = inspect.type_info(device.FrameSource)
assert isinstance(_SOURCE, inspect.StructType)
_DEVICE_NODE = {field.name: field.type for field in _SOURCE.fields}["device"]


@dataclass(frozen=True)
class Form:
    """words: what a text that matches is. example: one, as it is written in a profile."""

    words: str
    example: str


def _pattern(of: Any) -> str:
    described = of if isinstance(of, inspect.Type) else inspect.type_info(of)
    while isinstance(described, inspect.Metadata):
        described = described.type
    assert isinstance(described, inspect.StrType)
    assert described.pattern is not None
    return described.pattern


FORMS: dict[str, Form] = {
    _pattern(device.Identifier): Form("lower-case letters, digits and dashes, beginning with a letter", "label-check"),
    _pattern(device.TopicLevel): Form("one level of an MQTT topic: letters, digits, `_` and `-`", "line-3"),
    _pattern(device.PrimaryHost): Form("a Sparkplug host application's id, or nothing between quotes", "historian"),
    _pattern(_DEVICE_NODE): Form("a path below /dev", "/dev/video0"),
    _pattern(device.ProfileName): Form("lower-case letters, digits, `-` and `_`, beginning with a letter", "line-3"),
    _pattern(types.ModuleName): Form("a kernel module's name without suffix", "nft_ct"),
    _pattern(types.PackageName): Form("a Debian package's name without version", "firmware-realtek"),
    _pattern(types.WheelPin): Form("NAME==VERSION", "numpy==2.4.6"),
    _pattern(network_policy.Interface): Form(
        "at most 15 lower-case letters and digits, beginning with a letter", "uplink0"
    ),
    _pattern(network_policy.Place): Form("udev's ID_PATH of the interface", "pci-0000:02:00.0"),
    _pattern(network_policy.Prefix): Form("an IPv4 prefix", "192.0.2.0/24"),
    _pattern(network_policy.InterfaceAddress): Form("an IPv4 address and prefix length", "192.0.2.10/24"),
    _pattern(network_policy.Address): Form("an IPv4 address", "192.0.2.1"),
    _pattern(network_policy.Peer): Form("an IPv4 address or prefix", "192.0.2.5"),
    _pattern(network_policy.Ports): Form("a range of ports", "8000-8010"),
    _pattern(types.Console): Form("a serial console", "ttyS0"),
    _pattern(types.UsbClass): Form("a USB class of two lower-case hexadecimal digits", '"0e"'),
    _pattern(types.ModelFile): Form("a path inside the wheel that ends in .onnx", "package/models/model.onnx"),
    _pattern(network_policy.Date): Form("a date, YYYY-MM-DD", "2031-12-31"),
}
"""pattern -> what a text that matches it is."""
