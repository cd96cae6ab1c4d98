"""What the log says of a boot: what was booted and measured, which configuration and credentials are in force.

Only digests. The audit service is given the site's public credentials alone: a digest of a password or of anything else
with few possible values tells it to whoever tries them all, and a digest of a private key helps nobody.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import EdgesealError
from appliance.formats.audit_event import AuditEvent
from appliance.machine.tpm import Tpm

PUBLIC_CREDENTIALS = (
    *("broker-ca", "broker-host", "broker-hosts", "broker-port", "client-certificate", "device-id", "groups"),
    *("namespace", "network", "site-id", "site-root", "site-url", "update-ca", "vendor-url"),
)
"""Those without a secret: what edgeseal-audit.service imports."""
PCRS = 16
_ROOT_HASH = re.compile(r"(?:^|\s)roothash=([0-9a-f]{64})(?:\s|$)")
_SLOT = re.compile(r"root-([ab])(?:-verity)?")


@dataclass(frozen=True)
class System:
    """Where the kernel tells about itself; a test has its own."""

    command_line: Path = Path("/proc/cmdline")
    root: Path = Path("/")
    blocks: Path = Path("/sys/dev/block")


def boot_event(system: System, tpm: Tpm | None) -> AuditEvent:
    """`boot-measured`, or `boot-unmeasured` with the reason."""
    told = {"slot": booted_slot(system), "root_hash": root_hash(system)}
    if tpm is None:
        return AuditEvent(kind="boot-unmeasured", result="failure", fields={**told, "reason": "there is no TPM"})
    try:
        values = tpm.pcrs(PCRS)
    except EdgesealError as error:
        return AuditEvent(kind="boot-unmeasured", result="failure", fields={**told, "reason": str(error)[:1024]})
    measured = {f"pcr_{number}": value.hex() for number, value in enumerate(values)}
    return AuditEvent(kind="boot-measured", result="success", fields={**told, **measured})


def configuration_events(config: Path, credentials: Path | None) -> list[AuditEvent]:
    """The sealed configuration and each public credential that is there. credentials: their directory."""
    found = [AuditEvent(kind="configuration-loaded", result="success", fields={"sha256": _digest(config)})]
    names = [f"edgeseal.{name}" for name in PUBLIC_CREDENTIALS]
    for path in [credentials / name for name in names] if credentials is not None else []:
        if path.is_file():
            fields = {"name": path.name, "sha256": _digest(path)}
            found.append(AuditEvent(kind="credential-loaded", result="success", fields={**fields}))
    return found


def booted_slot(system: System) -> str:
    """`a` or `b`, by the label of the partition under the root's device; `unknown` elsewhere than on a device."""
    try:
        device = system.root.stat().st_dev
        slaves = system.blocks / f"{os.major(device)}:{os.minor(device)}" / "slaves"
        labels = {_label(slave) for slave in sorted(slaves.iterdir())}
    except OSError:
        return "unknown"
    slots = {match[1] for label in labels if (match := _SLOT.fullmatch(label))}
    return slots.pop() if len(slots) == 1 else "unknown"


def root_hash(system: System) -> str:
    """As the signed command line names it, or `unknown`."""
    try:
        found = _ROOT_HASH.search(system.command_line.read_text())
    except OSError:
        return "unknown"
    return found[1] if found else "unknown"


def _label(block: Path) -> str:
    words = dict(line.partition("=")[::2] for line in (block / "uevent").read_text().splitlines())
    return words.get("PARTNAME", "")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
