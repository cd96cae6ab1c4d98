"""Keys of one map: no packet in two of them, and no packet lost when they are cut."""

from __future__ import annotations

from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from appliance.formats.conduit_elements import conduit_elements
from appliance.formats.spans import Key, Span, key_without, keys_meet
from tests.support.policies import conduit, everything, synthetic

_spans = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda pair: Span(min(pair), max(pair)))
_keys = st.tuples(st.just("link"), _spans, st.just("6"), _spans)


def packets(key: Key) -> set[tuple[int, ...]]:
    spans = [field for field in key if isinstance(field, Span)]
    return set(product(*(range(span.low, span.high + 1) for span in spans)))


@given(_keys, _keys)
def test_a_key_without_another_is_exactly_the_rest(one: Key, two: Key) -> None:
    parts = list(key_without(one, two))
    assert set().union(*map(packets, parts)) == packets(one) - packets(two)
    assert sum(len(packets(part)) for part in parts) == len(packets(one) - packets(two))
    assert keys_meet(one, two) == bool(packets(one) & packets(two))


@given(st.lists(st.tuples(st.sampled_from(["uplink", "update"]), st.integers(0, 6), _spans), min_size=1, max_size=5))
def test_elements_of_one_map_never_overlap(rows: list[tuple[str, int, Span]]) -> None:
    conduits = tuple(
        conduit(
            f"one-{number}",
            "device",
            "site",
            "tcp",
            service=service,
            ports=(f"{100 + ports.low}-{100 + ports.high}",),
            peers=(f"192.168.20.{host * 4}/30" if host % 2 else f"192.168.20.{host * 4}/29",),
        )
        for number, (service, host, ports) in enumerate(rows)
    )
    policy = everything()
    elements = conduit_elements(type(policy)(**{**_fields(policy), "conduits": conduits}), {})
    for one, two in combinations(elements, 2):
        if one.map == two.map:
            assert not keys_meet(one.key, two.key)


def _fields(policy: object) -> dict[str, object]:
    return {name: getattr(policy, name) for name in policy.__struct_fields__}  # type: ignore[attr-defined]


def test_a_large_policy_loses_nothing() -> None:
    policy = synthetic(16, 400)
    assert {element.chain for element in conduit_elements(policy, {})} == {
        f"{letter}_{one.id}" for letter in "cb" for one in policy.conduits
    }
