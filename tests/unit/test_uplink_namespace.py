"""The namespace: from the profile, or from the site's credential."""

from __future__ import annotations

import pytest

from appliance.core.errors import DecodeError
from appliance.formats.device import Namespace
from appliance.formats.uplink_namespace import decode_namespace

BAD = (
    ("empty", b"", "credential edgeseal.namespace: Input data was truncated"),
    ("too long", b" " * 1025, "credential edgeseal.namespace: 1025 bytes, at most 1024"),
    ("a topic", b"example/plant-4", "credential edgeseal.namespace: JSON is malformed: invalid character (byte 0)"),
    (
        "no site",
        b'{"enterprise":"example"}',
        "credential edgeseal.namespace: Object missing required field `site`",
    ),
    (
        "a wildcard",
        b'{"enterprise":"example","site":"#"}',
        r"credential edgeseal.namespace: Expected `str` matching regex '^[A-Za-z0-9_-]{1,63}(?!\\n)$' - at `$.site`",
    ),
    (
        "two levels in one",
        b'{"enterprise":"example","site":"a/b"}',
        r"credential edgeseal.namespace: Expected `str` matching regex '^[A-Za-z0-9_-]{1,63}(?!\\n)$' - at `$.site`",
    ),
    (
        "another key",
        b'{"enterprise":"example","site":"a","row":"1"}',
        "credential edgeseal.namespace: Object contains unknown field `row`",
    ),
    (
        "a cell of no line",
        b'{"enterprise":"example","site":"a","cell":"1"}',
        "credential edgeseal.namespace: `cell` without the `line` that it is part of",
    ),
)


@pytest.mark.parametrize(("what", "data", "message"), BAD, ids=[row[0] for row in BAD])
def test_a_namespace_that_is_refused(what: str, data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as raised:
        decode_namespace(data)
    assert raised.value.message == message


def test_people_may_write_it_as_they_like() -> None:
    written = b'\n{ "site": "plant-4",\n  "enterprise": "example", "cell": "c-1", "line": "line-3" }\n'
    namespace = decode_namespace(written)
    assert namespace == Namespace(enterprise="example", site="plant-4", line="line-3", cell="c-1")
    assert namespace.topic == "example/plant-4/line-3/c-1"


def test_a_level_that_is_not_used_is_left_out() -> None:
    assert Namespace(enterprise="example", site="plant-4").topic == "example/plant-4"
    whole = Namespace(enterprise="a", site="b", area="c", line="d", cell="e")
    assert whole.topic == "a/b/c/d/e"
