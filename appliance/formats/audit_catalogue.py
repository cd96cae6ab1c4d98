"""The catalogue of audit events: every kind there is. Spec: docs/specs/audit-event.md (v2).

docs/reference/audit-events.md is generated from it. A kind that nobody can raise does not stand here (a test looks for
who does). Actions on outputs have no kind: the product has no output but its messages to the broker.
"""

from __future__ import annotations

from appliance.formats.audit_kind import EventKind
from appliance.formats.audit_kinds_device import BOOT, KERNEL, SERVICES
from appliance.formats.audit_kinds_log import LOG
from appliance.formats.audit_kinds_network import CONDUITS, UPLINK
from appliance.formats.audit_kinds_update import MODELS, UPDATES

SECTIONS: dict[str, dict[str, EventKind]] = {
    "Boot, configuration and clock": BOOT,
    "Services and what is plugged in": SERVICES,
    "What the kernel and systemd saw": KERNEL,
    "Updates": UPDATES,
    "Models": MODELS,
    "Zones and conduits": CONDUITS,
    "Uplink": UPLINK,
    "The log itself": LOG,
}
CATALOGUE: dict[str, EventKind] = {name: one for section in SECTIONS.values() for name, one in section.items()}
