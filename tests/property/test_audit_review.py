"""The reviewer's decoders on any bytes, and trees that grow in any steps."""

from __future__ import annotations

import base64
import contextlib
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError, InputError
from builder.audit.directory import LogDirectory
from builder.audit.grow import Growth
from builder.audit.policy import read_policy
from builder.audit.witness import decode_request, encode_request
from tests.support.naive_log import leaf_hash, named_key, tree_hash, write_tiles

WITNESS = named_key("site.test/w1", 4).vkey
WORDS = st.sampled_from(
    ["log", "witness", "group", "quorum", "none", "any", "all", "1", "2", "a", "b", WITNESS, "#", ""]
)
LINES = st.lists(st.lists(WORDS, max_size=5).map(" ".join), max_size=6).map("\n".join).map(str.encode)
HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=63)


@given(st.binary(max_size=200) | LINES)
def test_any_policy_is_read_or_refused_with_its_line(data: bytes) -> None:
    with contextlib.suppress(InputError):
        policy = read_policy(data, file="p")
        assert policy.is_met(list(policy.witnesses.values()))


@given(st.integers(0, 2**63 - 1), HASHES, st.binary(max_size=100))
def test_a_request_reads_back(old: int, proof: list[bytes], note: bytes) -> None:
    assert decode_request(encode_request(old, proof, note)) == (old, tuple(proof), note)


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda tail: b"old 7\n" + base64.b64encode(tail)))
def test_any_request_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        old, proof, note = decode_request(data)
        assert encode_request(old, proof, note) == data


@given(st.lists(st.integers(0, 300), min_size=1, max_size=5))
def test_a_tree_that_grows_in_steps_has_the_files_of_one_that_was_made_at_once(steps: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        grown, at_once = Path(name) / "grown", Path(name) / "at-once"
        grown.mkdir()
        entries: list[bytes] = []
        for count in steps:
            more = [b"entry %d" % (len(entries) + number) for number in range(count)]
            growth = Growth(LogDirectory(grown), len(entries), more)
            entries += more
            assert growth.root == tree_hash([leaf_hash(entry) for entry in entries])
            growth.write()
            growth.drop_old(len(entries) - count)
        at_once.mkdir()
        write_tiles(at_once, entries)
        assert contents(grown) == contents(at_once)


def contents(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in LogDirectory(directory).names()}
