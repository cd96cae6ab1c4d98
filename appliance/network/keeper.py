"""Keeps the ruleset in force as it was sealed: loads it, knows how it is listed, finds and undoes every difference.

What is expected is what the kernel lists right after our own transaction; the generation numbers before and after prove
that nobody else's came between. The cgroups of the services come and go with their units: systemd puts them into their
sets (NFTSet=), and what they have to be is asked of the cgroup tree, not of the listing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from appliance.core.errors import EdgesealError
from appliance.network.listing import Listing, differences, parse_listing

TRIES = 3
ALONE_TRIES = 20
TABLE = "inet edgeseal"
CGROUP_SET = f"set {TABLE} cg_"
_GENERATIONS = 1 << 32

CLOSED = """flush ruleset
table inet edgeseal_closed {
	chain input { type filter hook input priority -300; policy drop; }
	chain output { type filter hook output priority -300; policy drop; }
	chain forward { type filter hook forward priority -300; policy drop; }
}
table arp edgeseal_closed {
	chain input { type filter hook input priority 0; policy drop; }
	chain output { type filter hook output priority 0; policy drop; }
}
"""
"""What is put in force when the sealed ruleset cannot be: nothing in, nothing out."""


class Tables(Protocol):
    """What the keeper asks of the kernel; a test may have its own."""

    def load(self, commands: str) -> None:
        """Carry out all commands in one transaction, or none of them. Raises EdgesealError with nft's first line."""

    def listing(self) -> str:
        """As parse_listing takes it. Raises EdgesealError."""


class Generations(Protocol):
    """Numbers the committed transactions."""

    def generation(self) -> int:
        """The last one's. Raises EdgesealError."""


CgroupOf = Callable[[str], str | None]
"""service -> the path of its unit's cgroup below the hierarchy's root; None while there is none."""


@dataclass(frozen=True)
class Finding:
    """What a check found. differences: empty when all is as it was loaded. passing: it may end by itself soon."""

    differences: tuple[str, ...]
    passing: bool = False


class Keeper:
    """One network namespace's ruleset. sealed: nft commands. slots: commands that fill the slots, or none."""

    def __init__(self, tables: Tables, generations: Generations, cgroup_of: CgroupOf, sealed: str, slots: str) -> None:
        self._tables = tables
        self._generations = generations
        self._cgroup_of = cgroup_of
        self._sealed = sealed
        self._slots = slots
        self._expected: Listing | None = None
        self._verified: int | None = None
        self.was_loaded = False
        self.slots_refused = ""

    def start(self) -> Finding:
        """Put the sealed ruleset in force, then fill the slots. What was in force before is compared with both.

        Afterwards `was_loaded` says whether anything of ours was there before, and `slots_refused` why the slots are
        closed, if the kernel did not take their addresses. Raises EdgesealError.
        """
        before = parse_listing(self._tables.listing())
        self.was_loaded = TABLE in before.tables
        found = self._against(self._load(slots=False), before)
        if self._slots:
            found = min(found, self._against(self._fill(), before), key=len)
        return Finding(found)

    def _fill(self) -> Listing:
        """With the slots filled; without, when the kernel refuses that: the rest of the device is as good as before."""
        try:
            return self._load(slots=True)
        except EdgesealError as error:
            self._slots, self.slots_refused = "", str(error)
            return self._load(slots=False)

    @property
    def is_new(self) -> bool:
        """Whether there was a transaction since the ruleset was last seen as it has to be. Raises EdgesealError."""
        return self._generations.generation() != self._verified

    def check(self) -> Finding:
        """Compare the live ruleset with the expected one. Raises EdgesealError."""
        assert self._expected is not None, "start() comes first"
        generation, live = self._listing()
        found = self._against(self._expected, live)
        cgroups = tuple(self._cgroup_differences(live))
        if not found and not cgroups:
            self._verified = generation
        return Finding((*found, *cgroups), passing=not found and bool(cgroups))

    def restore(self) -> bool:
        """Put everything in force again, in one transaction. Raises EdgesealError when the kernel takes it no more.

        Returns whether nothing differs afterwards. If not, somebody was at it again, and is_new stays true.
        """
        self._put(slots=bool(self._slots))
        self._verified = None
        return not self.check().differences

    def close_device(self) -> None:
        """Nothing in, nothing out, whatever happens next. Raises EdgesealError."""
        self._tables.load(CLOSED)

    def _load(self, *, slots: bool) -> Listing:
        """In force, and listed without anybody else's transaction between."""
        for _ in range(ALONE_TRIES):
            before = self._generations.generation()
            self._put(slots=slots)
            loaded = self._generations.generation()
            listing = parse_listing(self._tables.listing())
            if _follows(before, loaded) and self._generations.generation() == loaded:
                self._expected, self._verified = listing, loaded
                return listing
        raise EdgesealError("the ruleset is changed as fast as it is loaded")

    def _put(self, *, slots: bool) -> None:
        for left in reversed(range(TRIES)):
            try:
                self._tables.load(self._commands(slots=slots))
                return
            except EdgesealError:  # once more: a unit's cgroup may have gone since we looked
                if not left:
                    raise

    def _commands(self, *, slots: bool) -> str:
        parts = ["flush ruleset", self._sealed, self._slots if slots else "", *self._cgroup_commands()]
        return "\n".join(part for part in parts if part) + "\n"

    def _cgroup_commands(self) -> Iterator[str]:
        for service in SERVICES:
            path = self._cgroup_of(service)
            if path is not None:
                yield f'add element {TABLE} cg_{service} {{ "{path}" }}'

    def _listing(self) -> tuple[int, Listing]:
        """The live ruleset and its generation; under attack perhaps a mixture of two, which is a difference too."""
        for _ in range(TRIES):
            before = self._generations.generation()
            text = self._tables.listing()
            if self._generations.generation() == before:
                break
        return before, parse_listing(text)

    def _against(self, expected: Listing, live: Listing) -> tuple[str, ...]:
        names = [name for name in expected.objects if name.startswith(CGROUP_SET)]
        return differences(expected.without_elements(names), live.without_elements(names))

    def _cgroup_differences(self, live: Listing) -> Iterator[str]:
        for service in SERVICES:
            name, path = f"{CGROUP_SET}{service}", self._cgroup_of(service)
            wanted = frozenset() if path is None else frozenset({f'"{path}"'})
            found = live.elements(name)
            yield from (f"{name}: element added: {element}" for element in sorted(found - wanted))
            yield from (f"{name}: element removed: {element}" for element in sorted(wanted - found))


SERVICES = ("audit", "inference", "network", "update", "uplink")
"""Each has a set of cgroups in every ruleset."""


def _follows(before: int, after: int) -> bool:
    """The kernel leaves 0 out when it comes round."""
    return after == before % (_GENERATIONS - 1) + 1
