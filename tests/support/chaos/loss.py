"""Lost packets, in the kernel: a rule in a network namespace of our own drops TCP segments on loopback.

Which of a hundred segments are dropped comes from the seed (nftables counts them: `numgen inc`), so TCP itself is
what has to cope, with its retransmissions and time-outs. tc-netem would do the same where the kernel has it.
"""

from __future__ import annotations

import itertools
import random
import subprocess

PERIOD = 100
_TABLE = "edgeseal_chaos"
MTU = 1500  # loopback's own is 64 KiB: a lost packet would be a lost window


def prepare_namespace() -> None:
    """Loopback up, with packets as on a wire. Only in a network namespace of our own (unshare --net)."""
    _run("ip", "link", "set", "dev", "lo", "mtu", str(MTU), "up")


class PacketLoss:
    """Drops `percent` of the segments from and to `port` while it is on."""

    def __init__(self, port: int, *, percent: int, seed: int) -> None:
        self._port = port
        self._percent = percent
        self._dice = random.Random(seed)
        self._on = False
        self.dropped = 0

    def start(self) -> None:
        """From now on. Every time others of a hundred."""
        _run("nft", "-f", "-", given=self._ruleset())
        self._on = True

    def stop(self) -> None:
        """No more, and count what was dropped."""
        if self._on:
            listing = _run("nft", "list", "table", "inet", _TABLE)
            words = listing.split()
            self.dropped += sum(int(after) for before, after in itertools.pairwise(words) if before == "packets")
            _run("nft", "delete", "table", "inet", _TABLE)
            self._on = False

    def _ruleset(self) -> str:
        rules = [
            f"tcp {side} {self._port} numgen inc mod {PERIOD} {{ {self._positions()} }} counter drop"
            for side in ("dport", "sport")
        ]
        hook = "type filter hook input priority 0; policy accept;"
        return "\n".join((f"table inet {_TABLE} {{", "chain input {", hook, *rules, "}", "}", ""))

    def _positions(self) -> str:
        return ", ".join(map(str, sorted(self._dice.sample(range(PERIOD), PERIOD * self._percent // 100))))


def _run(*words: str, given: str = "") -> str:
    return subprocess.run(words, input=given, text=True, check=True, capture_output=True).stdout
