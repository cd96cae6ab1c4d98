"""Rules and elements that no packet ever matches. Pure.

Dead: no packet that enters its chain matches it. Shadowed: some do, but rules before it have decided about all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from builder.network.bytecode import Immediate, Lookup
from builder.network.explore import Explorer, Life
from builder.network.listing import CGROUP_TYPES, Rule, Ruleset, Table

Unused = tuple[Literal["dead", "shadowed"], str, str]


def unused(ruleset: Ruleset, life: Life, *, waiting: bool) -> Iterator[Unused]:
    """Kind, what is wrong in words, and the rule or element.

    waiting: leave out what waits for a slot: chains that nothing leads to, and lookups in a map without elements.
    """
    for table in ruleset.tables:
        led_to = _led_to(table)
        for chain in table.chains.values():
            if waiting and not chain.hook and chain.name not in led_to:
                continue
            for rule in chain.rules:
                if rule.key not in life.rules and not (waiting and _is_empty_lookup(table, rule)):
                    yield _rule(table, rule, life)
        yield from _elements(table, life)


def _rule(table: Table, rule: Rule, life: Life) -> Unused:
    entering = life.entered.get((table.key, rule.chain), [])
    if not entering:
        return "dead", f"the rule `{rule}` is dead: no packet enters its chain", str(rule)
    for space, region in entering:
        alone = Life()
        explorer = Explorer(table, space, alone)
        explorer.try_rule(rule, region)
        if rule.key in alone.rules:
            text = f"the rule `{rule}` is shadowed: rules before it decide about every packet that it would match"
            return "shadowed", text, str(rule)
    return "dead", f"the rule `{rule}` is dead: no packet that enters its chain matches it", str(rule)


def _elements(table: Table, life: Life) -> Iterator[Unused]:
    for each in table.sets.values():
        if each.types == CGROUP_TYPES:
            continue  # filled at run time
        for number in range(len(each.elements)):
            if (table.key, each.name, number) not in life.elements:
                text = each.element_text(number)
                where = f"{table.family} {each.name}: {text}"
                yield (
                    "dead",
                    f"the element `{text}` of {each.name} is dead: no packet that is looked up matches it",
                    where,
                )


def _is_empty_lookup(table: Table, rule: Rule) -> bool:
    return any(isinstance(each, Lookup) and not table.sets[each.set].elements for each in rule.expressions)


def _led_to(table: Table) -> set[str]:
    """Chains that something jumps to, from a chain that is led to itself."""
    ways: dict[str, set[str]] = {}
    for chain in table.chains.values():
        ways[chain.name] = {target for rule in chain.rules for target in _targets(table, rule)}
    found: set[str] = set()
    waiting = [chain.name for chain in table.chains.values() if chain.hook]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += ways[name]
    return found


def _targets(table: Table, rule: Rule) -> Iterator[str]:
    for each in rule.expressions:
        if isinstance(each, Immediate) and each.verdict.chain:
            yield each.verdict.chain
        for element in table.sets[each.set].elements if isinstance(each, Lookup) else ():
            if element.verdict is not None and element.verdict.chain:
                yield element.verdict.chain
