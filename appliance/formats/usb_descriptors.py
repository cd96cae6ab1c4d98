"""Interface classes in a USB device's descriptors (USB 2.0 specification, section 9.6). Pure.

Bytes are those of the kernel's `descriptors` file: the device descriptor, then each configuration with its interfaces.
"""

from __future__ import annotations

from appliance.core.errors import DecodeError

_DEVICE, _INTERFACE = 1, 4
_DEVICE_LENGTH, _INTERFACE_LENGTH = 18, 9
_DEVICE_CLASS_AT, _INTERFACE_CLASS_AT = 4, 5
_PER_INTERFACE = {0x00, 0xEF}
"""Device classes that say: look at the interfaces."""


def usb_classes(descriptors: bytes) -> frozenset[str]:
    """Every class that the device may use, two hex digits each. Raises DecodeError for cut or absent descriptors."""
    if len(descriptors) < _DEVICE_LENGTH or descriptors[:2] != bytes((_DEVICE_LENGTH, _DEVICE)):
        raise DecodeError("USB descriptors: they do not begin with a device descriptor")
    found = set()
    if descriptors[_DEVICE_CLASS_AT] not in _PER_INTERFACE:
        found.add(f"{descriptors[_DEVICE_CLASS_AT]:02x}")
    at = _DEVICE_LENGTH
    while at < len(descriptors):
        length = descriptors[at]
        if length < 2 or at + length > len(descriptors):
            raise DecodeError(f"USB descriptors: the one at byte {at} is cut short")
        if descriptors[at + 1] == _INTERFACE:
            if length < _INTERFACE_LENGTH:
                raise DecodeError(f"USB descriptors: the interface at byte {at} is cut short")
            found.add(f"{descriptors[at + _INTERFACE_CLASS_AT]:02x}")
        at += length
    if not found:
        raise DecodeError("USB descriptors: no interface")
    return frozenset(found)
