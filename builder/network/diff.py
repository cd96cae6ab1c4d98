"""What changed between two policies, in words, and whether more is allowed than before. Pure.

Decided by packets (builder/network/reach.py), not by text: a conduit with another name and the same packets is
`renamed`; one that takes over the packets of another is wider only where it adds some, or protects them less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from appliance.formats.network_policy import Conduit, Link, NetworkPolicy, Slot, Zone
from builder.network.boxes import Box, Union
from builder.network.fields import (
    RATE_UNITS,
    Detail,
    Way,
    conduit_details,
    level_details,
    protection_details,
    rate_details,
    slot_details,
    zone_details,
)
from builder.network.reach import Space
from builder.network.words import link_words, listed, peer_words, protection_words, protocol_words, service_words

Kind = Literal["opened", "widened", "narrowed", "closed", "renamed", "split", "merged", "changed"]
_Named = TypeVar("_Named", Slot, Zone)
_ORDER: tuple[Kind, ...] = ("opened", "widened", "narrowed", "closed", "split", "merged", "renamed", "changed")


@dataclass(frozen=True)
class Change:
    """One thing that is not the same. what: conduit, zone, slot, link, device. widens: more is allowed than before."""

    kind: Kind
    what: str
    id: str
    details: tuple[str, ...]
    widens: bool


def differences(old: NetworkPolicy, new: NetworkPolicy) -> tuple[Change, ...]:
    """Everything that changed: what widens first, then by kind, then in the order of `new`."""
    changes = [
        *_Comparison(old, new).changes(),
        *_named("slot", _by_name(old.slots), _by_name(new.slots), slot_details),
        *_named("zone", _by_id(old.zones), _by_id(new.zones), zone_details),
        *_links(old, new),
        *_device(old, new),
    ]
    return tuple(sorted(changes, key=lambda change: (not change.widens, _ORDER.index(change.kind))))


def difference_data(changes: Sequence[Change]) -> dict[str, Any]:
    """What --json prints."""
    return {
        "widens": any(change.widens for change in changes),
        "changes": [
            {
                "kind": change.kind,
                "what": change.what,
                "id": change.id,
                "widens": change.widens,
                "details": list(change.details),
            }
            for change in changes
        ],
    }


def difference_text(data: dict[str, Any]) -> str:
    """For a terminal: `!` stands before what allows more."""
    lines = []
    for change in data["changes"]:
        lines.append(f"{'!' if change['widens'] else ' '} {change['kind']:8} {change['what']} {change['id']}")
        lines += [f"             {detail}" for detail in change["details"]]
    count = sum(change["widens"] for change in data["changes"])
    if not lines:
        return "no difference"
    return "\n".join([*lines, "", f"{count} of {len(data['changes'])} changes allow more than before"])


# ---- conduits


class _Side:
    """The conduits of one policy, and what they let through."""

    def __init__(self, policy: NetworkPolicy, space: Space) -> None:
        self.policy = policy
        self.conduits = {conduit.id: conduit for conduit in policy.conduits}
        self._reach = space.reach(policy)
        owned = [(box, owner) for owner, boxes in self._reach.items() for box in boxes]
        self._owners = [owner for _, owner in owned]
        self.all = Union([box for box, _ in owned])

    def boxes(self, conduit: Conduit) -> tuple[Box, ...]:
        return self._reach.get(conduit.id, ())

    def sharing(self, boxes: Sequence[Box]) -> list[Conduit]:
        """The conduits that let through a packet of `boxes`, in the order of the policy."""
        owners = {self._owners[number] for box in boxes for number in self.all.near(box)}
        return [conduit for conduit in self.policy.conduits if conduit.id in owners]

    def facts(self, conduit: Conduit) -> tuple[str, ...]:
        """A conduit in two lines."""
        ends = f"{conduit.from_zone} to {conduit.to_zone}, {service_words(conduit)}, {protocol_words(conduit)}"
        return (f"{ends}, {protection_words(conduit)}", peer_words(self.policy, conduit))


class _Comparison:
    """The conduits of two policies."""

    def __init__(self, old: NetworkPolicy, new: NetworkPolicy) -> None:
        self._space = Space((old, new))
        self._old, self._new = _Side(old, self._space), _Side(new, self._space)

    def changes(self) -> Iterator[Change]:
        """Pairs by id, then pairs by packets, then what is left on either side."""
        partners = {name: self._old.conduits[name] for name in self._new.conduits if name in self._old.conduits}
        left = [conduit for conduit in self._old.policy.conduits if conduit.id not in partners]
        for conduit in self._new.policy.conduits:
            if conduit.id not in partners and (partner := self._renamed(conduit, left)) is not None:
                partners[conduit.id] = partner
                left.remove(partner)
        for conduit in self._new.policy.conduits:
            if conduit.id in partners:
                yield from self._pair(partners[conduit.id], conduit)
            else:
                yield self._fresh(conduit)
        yield from (self._gone(conduit) for conduit in left)

    def _renamed(self, conduit: Conduit, left: Sequence[Conduit]) -> Conduit | None:
        """Which of the old conduits without a successor this one is: one with the same packets, else with some."""
        boxes = self._new.boxes(conduit)
        sharing = [one for one in self._old.sharing(boxes) if one in left]
        return next((one for one in sharing if self._same(self._old.boxes(one), boxes)), next(iter(sharing), None))

    def _pair(self, before: Conduit, after: Conduit) -> Iterator[Change]:
        """Both are one conduit, whatever it is called."""
        details = list(conduit_details(self._old.policy, before, self._new.policy, after))
        one, two = self._old.boxes(before), self._new.boxes(after)
        opened, lost = [], []
        if one != two:
            opened, lost = self._space.rest(two, self._old.all), self._space.rest(one, Union(two))
            details += self._taken_over(after, [other for other in self._old.sharing(two) if other.id != before.id])
        wider = bool(opened) or any(detail.way == "wider" for detail in details)
        narrower = bool(lost) or any(detail.way == "narrower" for detail in details)
        renamed = before.id != after.id
        if details or renamed or wider or narrower:
            kind: Kind = "widened" if wider else "narrowed" if narrower else "renamed" if renamed else "changed"
            texts = [f"called {before.id} before"] if renamed else []
            yield Change(kind, "conduit", after.id, (*texts, *(detail.text for detail in details)), wider)

    def _fresh(self, conduit: Conduit) -> Change:
        """No conduit of the old policy is this one."""
        boxes = self._new.boxes(conduit)
        if not boxes or self._space.rest(boxes, self._old.all):
            return Change("opened", "conduit", conduit.id, self._new.facts(conduit), True)
        parents = self._old.sharing(boxes)
        details = [*self._taken_over(conduit, parents), *(total for one in parents for total in self._totals(one))]
        texts = (f"was part of {_ids(parents)}", *(detail.text for detail in details))
        return Change("widened" if details else "split", "conduit", conduit.id, texts, bool(details))

    def _gone(self, conduit: Conduit) -> Change:
        """No conduit of the new policy is this one; what takes its packets over says so itself."""
        boxes = self._old.boxes(conduit)
        heirs = self._new.sharing(boxes)
        if boxes and not self._space.rest(boxes, self._new.all):
            return Change("merged", "conduit", conduit.id, (f"merged into {_ids(heirs)}",), False)
        still = (f"still open in part by {_ids(heirs)}",) if heirs else ()
        return Change("closed", "conduit", conduit.id, (*self._old.facts(conduit), *still), False)

    def _taken_over(self, conduit: Conduit, others: Iterable[Conduit]) -> list[Detail]:
        """Where packets of other conduits are protected or limited less than they were."""
        return [
            Detail(f"{detail.text}, for packets of {other.id}", "wider")
            for other in others
            for detail in (*protection_details(other, conduit), *rate_details(other, conduit))
            if detail.way == "wider"
        ]

    def _totals(self, parent: Conduit) -> Iterator[Detail]:
        """The limits of all conduits that one has become."""
        heirs = self._new.sharing(self._old.boxes(parent))
        for name, unit in RATE_UNITS.items():
            total, before = sum(getattr(heir.rate, name) for heir in heirs), getattr(parent.rate, name)
            if total > before:
                yield Detail(f"limit: together {total} {unit} instead of {before}, for packets of {parent.id}", "wider")

    def _same(self, one: Sequence[Box], two: Sequence[Box]) -> bool:
        return not self._space.rest(one, Union(two)) and not self._space.rest(two, Union(one))


def _ids(conduits: Iterable[Conduit]) -> str:
    return listed(tuple(conduit.id for conduit in conduits))


# ---- everything else


def _named(
    what: str,
    old: Mapping[str, _Named],
    new: Mapping[str, _Named],
    compare: Callable[[_Named, _Named], Iterable[Detail]],
) -> Iterator[Change]:
    """Zones and slots. One more or one less lets nothing through by itself."""
    for name, one in new.items():
        if name not in old:
            yield Change("changed", what, name, ("added",), False)
        elif details := tuple(compare(old[name], one)):
            yield _changed(what, name, details)
    yield from (Change("changed", what, name, ("removed",), False) for name in old if name not in new)


def _by_name(slots: Iterable[Slot]) -> dict[str, Slot]:
    return {slot.name: slot for slot in slots}


def _by_id(zones: Iterable[Zone]) -> dict[str, Zone]:
    return {zone.id: zone for zone in zones}


def _changed(what: str, name: str, details: tuple[Detail, ...]) -> Change:
    ways = {detail.way for detail in details}
    kind: Kind = "widened" if "wider" in ways else "narrowed" if "narrower" in ways else "changed"
    return Change(kind, what, name, tuple(detail.text for detail in details), "wider" in ways)


def _links(old: NetworkPolicy, new: NetworkPolicy) -> Iterator[Change]:
    """A link is how the device reaches a zone; what it lets through is said by the conduits."""
    olds, news = ({link.name: _facts(link) for link in policy.links} for policy in (old, new))
    for name, facts in news.items():
        if name not in olds:
            yield Change("changed", "link", name, ("added", *facts), False)
        elif facts != olds[name]:
            texts = (f"{two} instead of {one}" for one, two in zip(olds[name], facts, strict=True) if one != two)
            yield Change("changed", "link", name, tuple(texts), False)
    yield from (Change("changed", "link", name, ("removed",), False) for name in olds if name not in news)


def _facts(link: Link) -> tuple[str, ...]:
    return (f"found by {link_words(link)}", f"addresses {listed(link.addresses)}", f"gateway {link.gateway or 'none'}")


def _device(old: NetworkPolicy, new: NetworkPolicy) -> Iterator[Change]:
    details = list(level_details(old.security_level, new.security_level))
    if old.component_type != new.component_type:
        way: Way = (
            "wider" if new.component_type == "network" else "narrower" if old.component_type == "network" else "other"
        )
        details.append(Detail(f"component type {new.component_type} instead of {old.component_type}", way))
    if details:
        yield _changed("device", "device", tuple(details))
