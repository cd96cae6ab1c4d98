"""Users and groups of the services. The numbers are the same in every image: files under /var outlive an image.

They stand a second time in appliance/units/edgeseal.sysusers; a test compares.
"""

from __future__ import annotations

CLIENTS_GROUP = ("edgeseal-clients", 700)
TPM_GROUP = ("edgeseal-tpm", 710)
"""May open the TPM: the audit log and the update service."""
USERS = {
    "edgeseal-audit": 701,
    "edgeseal-uplink": 702,
    "edgeseal-inference": 703,
    "edgeseal-update": 704,
    "edgeseal-network": 705,
}
OFFLINE_USERS = {"edgeseal-watch": 706}
"""No conduit can be theirs: the ruleset has no set of their control groups."""
ROOT_UID = 0
