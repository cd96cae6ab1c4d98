"""edgeseal-audit-export: copies the audit log to a medium that was plugged in, and says so in the log.

It has no key, no right and no network, and ends with the copy; systemd mounts before and unmounts after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import EdgesealError
from appliance.export.copying import TOP, copy_logs, published
from appliance.export.medium import Medium
from appliance.export.tree import Tree
from appliance.formats.audit_event import AUDIT_SOCKET
from appliance.machine.audit_client import AuditClient
from appliance.machine.notify import say

PUBLISHED_WITHIN_S = 60.0
"""What the log has acknowledged is published within a second; an emulated machine takes longer."""
_LOOK_S = 0.2


@dataclass(frozen=True)
class Settings:
    """Where things are; a test has its own. pause: sleeps so many seconds."""

    logs: Path = Path("/var/lib/edgeseal-audit")
    medium: Path = Path("/run/edgeseal-export")
    audit_socket: str = AUDIT_SOCKET
    pause: Callable[[float], None] = time.sleep


def serve(settings: Settings = Settings()) -> None:
    """One copy. Raises EdgesealError."""
    audit = AuditClient(settings.audit_socket)
    try:
        name = _device_number(settings.medium)
        source, medium = Tree(settings.logs, "log"), Medium(settings.medium, TOP)
        try:
            _wait(source, _began(audit, name), settings.pause)
            copied = copy_logs(source, medium)
        except EdgesealError as error:
            audit.try_record("log-not-exported", "failure", medium=name, reason=str(error)[:1024])
            raise
        audit.try_record("log-exported", medium=name, logs=copied.logs, entries=copied.entries, bytes=medium.written)
        say(f"<5>{copied.logs} logs with {copied.entries} entries are on the medium {name}")
    finally:
        audit.close()


def _began(audit: AuditClient, medium: str) -> int | None:
    """Index of the entry that says so. None when the log takes none: a full or broken one must be readable too."""
    try:
        return audit.record("log-export-began", medium=medium)
    except EdgesealError as error:
        say(f"<4>{error}; what it has published is copied")
        return None


def _wait(source: Tree, index: int | None, pause: Callable[[float], None]) -> None:
    """Until entry `index`, and so all that was acknowledged before it, is published. Raises EdgesealError."""
    if index is None:
        pause(2.0)  # what was acknowledged before is published within one
        return
    for _ in range(round(PUBLISHED_WITHIN_S / _LOOK_S)):
        found = published(source)
        if found is not None and found[0].size > index:
            return
        pause(_LOOK_S)
    raise EdgesealError(f"entry {index} was not published within {PUBLISHED_WITHIN_S:.0f} s")


def _device_number(medium: Path) -> str:
    """As the kernel has it: `8:17`."""
    try:
        device = medium.stat().st_dev
    except OSError as error:
        raise EdgesealError(f"medium: {(error.strerror or str(error)).lower()}") from error
    return f"{os.major(device)}:{os.minor(device)}"
