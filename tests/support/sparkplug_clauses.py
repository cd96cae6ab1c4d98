"""The testable assertions of Sparkplug B 3.0 as checks of a recording, for edge nodes without devices.

They share no code with what they check: payloads are read by tests.support.sparkplug_wire.
"""

from __future__ import annotations

from tests.support import sparkplug_host_clauses, sparkplug_payload_clauses, sparkplug_session_clauses
from tests.support.sparkplug_clause import CHECKS
from tests.support.sparkplug_recording import Recording

__all__ = ("CHECKS", "faults", "sparkplug_host_clauses", "sparkplug_payload_clauses", "sparkplug_session_clauses")


def faults(recording: Recording) -> list[str]:
    """`id: what` for each assertion that does not hold."""
    return [f"{clause}: {fault}" for clause, check in sorted(CHECKS.items()) for fault in check(recording)]
