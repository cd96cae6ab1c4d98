"""The sealed device configuration, read from the root."""

from __future__ import annotations

from pathlib import Path

from appliance.core.errors import EdgesealError
from appliance.formats.device import DeviceConfig, decode_device_config


def load_device_config(path: Path) -> DeviceConfig:
    """Raises EdgesealError when it cannot be read, DecodeError when it is not one."""
    return decode_device_config(read_sealed(path))


def read_sealed(path: Path) -> bytes:
    """A whole small file of the root. Raises EdgesealError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise EdgesealError(f"cannot read {path}: {error.strerror}", hint="the builder puts it in") from error
