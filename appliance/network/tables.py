"""The kernel's rulesets through libnftables: one transaction in, one listing out.

libnftables is called by ctypes without callbacks, which the device's execution policy would refuse (ADR 0007).
"""

from __future__ import annotations

import nftables

from appliance.core.errors import EdgesealError


class KernelTables:
    """The tables of this network namespace; keeper.Tables."""

    def __init__(self) -> None:
        self._nft = nftables.Nftables()
        self._nft.set_stateless_output(True)
        self._nft.set_numeric_proto_output(True)
        self._nft.set_numeric_prio_output(True)
        self._nft.set_numeric_symbol_output(True)

    def load(self, commands: str) -> None:
        """Carry out all commands in one transaction, or none of them. Raises EdgesealError with nft's first line."""
        self._run(commands, "load the ruleset")

    def listing(self) -> str:
        """As parse_listing takes it. Raises EdgesealError."""
        before = self._nft.set_debug("netlink")
        try:
            return self._run("list ruleset", "list the ruleset")
        finally:
            self._nft.set_debug(before)

    def _run(self, commands: str, what: str) -> str:
        rc, output, error = self._nft.cmd(commands)
        if rc != 0:
            said = [line for line in error.splitlines() if line.strip()]
            raise EdgesealError(f"cannot {what}: {said[0].strip() if said else 'nft gave no reason'}")
        return str(output)
