"""Run by udev with the device's sysfs path. The kernel authorises no USB device by itself (kernel command line).

A device that offers one allowed class and one more is not let in: a camera that is a keyboard too stays out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.core.errors import DecodeError
from appliance.formats.device import DEVICE_CONFIG_PATH
from appliance.formats.usb_descriptors import usb_classes
from appliance.machine.config import load_device_config
from appliance.machine.entry import run_service
from appliance.machine.notify import say

_HUB = "09"


def judge(device: Path, allowed: frozenset[str]) -> bool:
    """Authorise the device at this sysfs path, or say why not."""
    try:
        offered = usb_classes((device / "descriptors").read_bytes())
    except DecodeError as error:
        say(f"<4>{device.name}: {error}; it stays unauthorised")
        return False
    refused = sorted(offered - allowed - {_HUB})
    if refused:
        say(f"<4>{device.name}: USB class {', '.join(refused)} is not in the profile; it stays unauthorised")
        return False
    (device / "authorized").write_text("1")
    say(f"{device.name}: USB class {', '.join(sorted(offered))} authorised")
    return True


def serve() -> None:
    """argv: the device's path below /sys."""
    config = load_device_config(Path(DEVICE_CONFIG_PATH))
    judge(Path("/sys", sys.argv[1].lstrip("/")), frozenset(config.usb_classes))


if __name__ == "__main__":
    sys.exit(run_service(serve))
