"""Many rulesets through the kernel in one sandbox: what builder.host.netfilter does with one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence

from builder.host.toolstree import tools_tree
from builder.network.listing import Ruleset, read_listing

_GUEST = """
import subprocess, sys
for ruleset in sys.stdin.buffer.read().split(b"\\0"):
    loaded = subprocess.run(["nft", "-f", "-"], input=b"flush ruleset\\n" + ruleset, stderr=subprocess.PIPE)
    for words in (["--debug=netlink"], ["-j"]):
        words = ["nft", *words, "list", "ruleset"]
        listed = b"" if loaded.returncode else subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
        sys.stdout.buffer.write(listed + b"\\0")
"""
_AT_ONCE = 40


def take_back_each(rulesets: Sequence[bytes]) -> Iterator[Ruleset | None]:
    """Each as the kernel gives it back; None for one that it refuses."""
    tools = tools_tree()
    for start in range(0, len(rulesets), _AT_ONCE):
        command = tools.command(["python3", "-I", "-c", _GUEST], capabilities=("CAP_NET_ADMIN",))
        asked = b"\0".join(rulesets[start : start + _AT_ONCE])
        answer = subprocess.run(command, input=asked, stdout=subprocess.PIPE, check=True).stdout
        parts = answer.decode().split("\0")
        for text, objects in zip(parts[0:-1:2], parts[1:-1:2], strict=True):
            yield read_listing(text, objects) if objects else None
