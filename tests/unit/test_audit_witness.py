"""add-checkpoint, request by request: C2SP tlog-witness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError, VerificationError
from appliance.formats.merkle import consistency_proof
from appliance.formats.signed_note import decode_signatures, decode_vkey, open_note
from builder.audit.crypto import check_signature, make_witness_key
from builder.audit.directory import LogDirectory
from builder.audit.submit import ForkSeenError, submit
from builder.audit.witness import Answer, Witness, encode_request
from tests.support.audit_story import ORIGIN, Story, story
from tests.support.naive_log import named_key

NOW = 1_771_100_000


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    key = make_witness_key(tmp_path / "w.key", "site.test/w1")
    return Witness(key, tmp_path / "state", {ORIGIN: [decode_vkey(named_key(ORIGIN).vkey)]})


def request(told: Story, directory: Path, old: int, *, note: str | None = None) -> bytes:
    size = len(told.entries)
    log = LogDirectory(told.write(directory / f"{size}"))
    return encode_request(old, consistency_proof(old, size, log.nodes(size)), (note or told.note()).encode())


def test_it_cosigns_a_first_checkpoint_and_what_continues_it(witness: Witness, tmp_path: Path) -> None:
    told = story(boots=1)
    first = witness.answer(request(told, tmp_path, 0), now=NOW)
    assert first.status == 200
    told.restart()
    second = witness.answer(request(told, tmp_path, 6), now=NOW + 1)
    assert second.status == 200
    text = told.note().rpartition("\n\n")[0] + "\n\n"
    opened = open_note((text + second.body.decode()).encode(), [witness.key.verifier], check_signature)
    assert [one.timestamp for one in opened.verified] == [NOW + 1]
    known = witness.known(ORIGIN)
    assert known is not None
    assert known.size == 8


def test_the_same_checkpoint_twice(witness: Witness, tmp_path: Path) -> None:
    told = story(boots=1)
    witness.answer(request(told, tmp_path, 0), now=NOW)
    again = witness.answer(request(told, tmp_path, 6), now=NOW + 5)
    assert (again.status, len(decode_signatures(again.body.decode()))) == (200, 1)


def forged(told: Story) -> Story:
    told.entries[3] = told.entries[3].replace(b"CHG-17", b"CHG-18")
    return told


REFUSALS: list[tuple[str, Callable[[Path], bytes], int, bytes]] = [
    ("another old size", lambda path: request(story(boots=2), path, 4), 409, b"6\n"),
    ("from nothing again", lambda path: request(story(boots=2), path, 0), 409, b"6\n"),
    ("another root of that size", lambda path: request(forged(story(boots=1)), path, 6), 409, b"6\n"),
    (
        "another history",
        lambda path: request(forged(story(boots=2)), path, 6),
        422,
        b"consistency proof from 6 to 11: leads to another old root\n",
    ),
    (
        "no proof",
        lambda path: encode_request(6, (), story(boots=2).note().encode()),
        422,
        b"consistency proof from 6 to 11: too short\n",
    ),
    (
        "an unknown log",
        lambda path: encode_request(0, (), story(boots=1).note().replace("line-3", "line-4").encode()),
        404,
        b"the log edgeseal.audit/line-4/0a1b2c3d is not known here\n",
    ),
    (
        "another key",
        lambda path: request(story(boots=1, log_key=named_key(ORIGIN, variant="thief")), path, 0),
        403,
        b"note: no known key signed it\n",
    ),
    (
        "an old size above the new one",
        lambda path: encode_request(9, (), story(boots=1).note().encode()),
        400,
        b"the old size is above the checkpoint's\n",
    ),
    (
        "no old line",
        lambda path: story(boots=1).note().encode(),
        400,
        b"add-checkpoint: not an old size, a proof, an empty line and a checkpoint\n",
    ),
    (
        "a leading zero",
        lambda path: b"old 06\n\n" + story(boots=1).note().encode(),
        400,
        b"add-checkpoint: old size: `06` is not a decimal number without leading zeroes\n",
    ),
    (
        "64 hashes",
        lambda path: encode_request(0, [bytes(32)] * 64, story(boots=1).note().encode()),
        400,
        b"add-checkpoint: 64 lines of proof, at most 63 are allowed\n",
    ),
]


@pytest.mark.parametrize(("make", "status", "said"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_refusals(make: Callable[[Path], bytes], status: int, said: bytes, witness: Witness, tmp_path: Path) -> None:
    first = witness.answer(request(story(boots=1), tmp_path / "first", 0), now=NOW)
    assert first.status == 200
    answer = witness.answer(make(tmp_path), now=NOW)
    kind = "text/x.tlog.size" if status == 409 else "text/plain; charset=utf-8"
    assert answer == Answer(status, said, kind)
    known = witness.known(ORIGIN)
    assert known is not None
    assert known.size == 6


# ---- submit


def test_submit_adds_cosignatures_and_asks_for_what_the_witness_knows(witness: Witness, tmp_path: Path) -> None:
    def post(body: bytes) -> tuple[int, bytes]:
        answer = witness.answer(body, now=NOW)
        return answer.status, answer.body

    told = story(boots=1)
    submit(told.write(tmp_path / "log"), [witness.key.verifier], post)
    told.restart()
    directory = told.write(tmp_path / "log")
    (line,) = submit(directory, [witness.key.verifier], post)
    assert line.name == "site.test/w1"
    assert len(LogDirectory(directory).note().decode().rpartition("\n\n")[2].splitlines()) == 3
    forked = forged(story(boots=3)).write(tmp_path / "forked")
    with pytest.raises(ForkSeenError, match=r"the witness knows another history of .*: 422 consistency proof"):
        submit(forked, [witness.key.verifier], post)
    shorter = story(boots=1).write(tmp_path / "shorter")
    with pytest.raises(ForkSeenError, match="the witness has seen 8 entries of this log, which now has 6"):
        submit(shorter, [witness.key.verifier], post)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"out of order", "the witness refused the checkpoint: 500 out of order"),
        (403, b"invalid signature\n", "the witness refused the checkpoint: 403 invalid signature"),
        (409, b"many\n", "the witness answered 409 without the size that it knows"),
        (200, b"hello\n", "the witness answered with something that is no signature"),
    ],
)
def test_a_witness_that_does_not_cosign(status: int, body: bytes, said: str, witness: Witness, tmp_path: Path) -> None:
    directory = story(boots=1).write(tmp_path / "log")
    before = LogDirectory(directory).note()
    with pytest.raises(EdgesealError) as refused:
        submit(directory, [witness.key.verifier], lambda _body: (status, body))
    assert refused.value.message == said
    assert LogDirectory(directory).note() == before


def test_a_cosignature_of_somebody_else_or_over_something_else(witness: Witness, tmp_path: Path) -> None:
    told = story(boots=1)
    directory = told.write(tmp_path / "log")
    stranger = named_key("site.test/w9", 4)
    line = stranger.line(told.note().rpartition("\n\n")[0] + "\n", time=NOW).encode()
    with pytest.raises(VerificationError, match="which is no witness that you named"):
        submit(directory, [witness.key.verifier], lambda _body: (200, line))
    wrong = stranger.line("another text\n", time=NOW).encode()
    with pytest.raises(VerificationError, match=r"the signature of site.test/w9.* is wrong"):
        submit(directory, [decode_vkey(stranger.vkey)], lambda _body: (200, wrong))
