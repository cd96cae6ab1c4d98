"""Take a ruleset back from the kernel: load it into a network namespace of its own, and list what came of it.

The locked nft of the tools tree runs under bubblewrap with a user and a network namespace, so no rule of this machine
is seen or touched, and no right is needed but that of making a user namespace.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core.errors import EdgesealError, InputError
from builder.host.paths import source_root
from builder.host.run import run
from builder.host.sandbox import Sandbox

_GUEST = "/run/nftguest.py"


@dataclass(frozen=True)
class Listing:
    """What the kernel holds. text: `nft --debug=netlink list ruleset`. objects: `nft -j list ruleset`."""

    text: str
    objects: str


def load_and_list(ruleset: bytes, *, tools: Sandbox, name: str) -> Listing:
    """ruleset: in nft's syntax. name: what it is called in an error message.

    Raises InputError when nft or the kernel refuses the ruleset, or when this machine lends no network namespace.
    """
    script = source_root() / "builder/host/nftguest.py"
    words = ["python3", "-I", _GUEST]
    command = tools.command(words, binds={script: _GUEST}, capabilities=("CAP_NET_ADMIN",))
    try:
        answer = run(command, reason=f"load {name} into a network namespace", stdin=ruleset)
    except EdgesealError as error:
        raise InputError(error.message, hint=_hint(error.message)) from error
    parts = answer.decode().split("\0\n")
    return Listing(text=parts[0], objects=parts[1])


def _hint(message: str) -> str:
    if "bwrap: " in message:
        return "this machine lends no user and network namespace: sysctl kernel.unprivileged_userns_clone=1, or be root"
    return "the line that nft does not take is in its own words above; is the kernel's nf_tables there?"
