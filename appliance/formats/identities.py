"""Users and groups of the services. The numbers are the same in every image: files under /var outlive an image.

They stand a second time in appliance/units/edgeseal.sysusers; a test compares.
"""

from __future__ import annotations

CLIENTS_GROUP = ("edgeseal-clients", 700)
USERS = {
    "edgeseal-audit": 701,
    "edgeseal-uplink": 702,
    "edgeseal-inference": 703,
    "edgeseal-update": 704,
    "edgeseal-network": 705,
}
ROOT_UID = 0
