"""Run by udev with the device's sysfs path. The kernel authorises no USB device by itself (kernel command line).

A device that offers one allowed class and one more is not let in: a camera that is a keyboard too stays out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.core.errors import DecodeError
from appliance.formats.audit_event import AUDIT_SOCKET
from appliance.formats.device import DEVICE_CONFIG_PATH
from appliance.formats.usb_descriptors import usb_classes
from appliance.machine.audit_client import AuditClient
from appliance.machine.config import load_device_config
from appliance.machine.entry import run_service
from appliance.machine.notify import say

_HUB = "09"


def judge(device: Path, allowed: frozenset[str], audit: AuditClient) -> bool:
    """Authorise the device at this sysfs path, or say why not; the audit log is told."""
    try:
        offered = usb_classes((device / "descriptors").read_bytes())
    except DecodeError as error:
        say(f"<4>{device.name}: {error}; it stays unauthorised")
        audit.try_record("usb-refused", "failure", device=device.name, reason=str(error)[:1024])
        return False
    refused = sorted(offered - allowed - {_HUB})
    if refused:
        reason = f"USB class {', '.join(refused)} is not in the profile"
        say(f"<4>{device.name}: {reason}; it stays unauthorised")
        audit.try_record("usb-refused", "failure", device=device.name, reason=reason[:1024])
        return False
    (device / "authorized").write_text("1")
    say(f"{device.name}: USB class {', '.join(sorted(offered))} authorised")
    audit.try_record("usb-admitted", device=device.name, classes=", ".join(sorted(offered)))
    return True


def serve() -> None:
    """argv: the device's path below /sys."""
    config = load_device_config(Path(DEVICE_CONFIG_PATH))
    audit = AuditClient(AUDIT_SOCKET, timeout_s=1.0)  # udev waits; early in a boot the log does not answer yet
    judge(Path("/sys", sys.argv[1].lstrip("/")), frozenset(config.usb_classes), audit)
    audit.close()


if __name__ == "__main__":
    sys.exit(run_service(serve))
