"""Where things are for edgeseal-network; a test has its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.formats.audit_event import AUDIT_SOCKET
from appliance.formats.network_policy import NETWORK_POLICY_PATH
from appliance.formats.uplink_message import UPLINK_SOCKET


@dataclass(frozen=True)
class Settings:
    """check_s: seconds between two comparisons that nothing asked for. flush_s: drops are counted together so long."""

    ruleset: Path = Path("/usr/lib/edgeseal/nftables.conf")
    policy: Path = Path(NETWORK_POLICY_PATH)
    audit_socket: str = AUDIT_SOCKET
    uplink_socket: str = UPLINK_SOCKET
    check_s: float = 60.0
    flush_s: float = 10.0
