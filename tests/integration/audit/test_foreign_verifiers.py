"""A stranger verifies the log with programs that we did not write, and they see what we see."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from appliance.formats.signed_note import decode_vkey, encode_vkey
from builder.audit.crypto import make_witness_key
from builder.audit.directory import LogDirectory
from builder.audit.policy import witnesses_needed
from builder.audit.submit import ForkSeenError, submit
from builder.audit.verify import verify_log
from builder.audit.witness import MAX_REQUEST, Witness
from builder.cli.main import main
from builder.host.http import answering_posts, post
from tests.integration.audit.foreign import LiteWitness, litewitness, run_go
from tests.support.audit_story import ORIGIN, Story, story
from tests.support.naive_log import named_key

VERIFIER = Path(__file__).parents[3] / "docs/how-to/verify-audit-log.py"
VKEY = named_key(ORIGIN).vkey


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="esl-") as name:
        yield Path(name)


def flip(directory: Path, pattern: str, place: int) -> None:
    path = sorted(directory.glob(pattern))[0]
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


# ---- Go: golang.org/x/mod/sumdb


@pytest.mark.parametrize("fill", [0, 250, 251, 900, 66_000])
def test_go_verifies_every_entry_and_growth(fill: int, tmp_path: Path) -> None:
    told = story(boots=1)
    kept = tmp_path / "kept"
    kept.write_text(told.note())
    told.fill(fill)
    size = len(told.entries)
    code, said = run_go(told.write(tmp_path / "log"), VKEY, kept)
    assert code == 0, said
    assert said.splitlines()[1:] == [
        f"inclusion: {size} entries are in the tree, 0 are pruned",
        f"consistency: size {size} continues size 6",
    ]


def test_go_verifies_a_pruned_log(tmp_path: Path) -> None:
    told = story(boots=1, fill=900)
    directory = told.write(tmp_path / "log")
    for number in ("000", "001"):
        (directory / f"tile/entries/{number}").unlink()
        (directory / f"tile/0/{number}").unlink()
    code, said = run_go(directory, VKEY)
    assert code == 0, said
    assert said.splitlines()[1] == "inclusion: 394 entries are in the tree, 512 are pruned"
    found = verify_log(directory, [decode_vkey(VKEY)], witnesses_needed(()), since=None)
    assert (found.findings, found.minimum, found.entries) == ([], 512, 394)


@pytest.mark.parametrize(
    ("pattern", "place", "said"),
    [
        ("checkpoint", 40, "error: "),
        ("tile/entries/000", 30, "error: entry 0 is not the one in the tree\n"),
        ("tile/0/001", 77, "error: entry 258 is not the one in the tree\n"),
        ("tile/1/000.p/*", 3, "error: downloaded inconsistent tile\n"),
    ],
)
def test_go_sees_what_we_see(pattern: str, place: int, said: str, tmp_path: Path) -> None:
    directory = story(boots=1, fill=900).write(tmp_path / "log")
    flip(directory, pattern, place)
    code, heard = run_go(directory, VKEY)
    assert code == 1
    assert said in heard
    assert not verify_log(directory, [decode_vkey(VKEY)], witnesses_needed(()), since=None).ok


# ---- Python's standard library


def plain(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", VERIFIER, directory, VKEY], capture_output=True, text=True, timeout=120
    )


def test_the_one_file_verifier(tmp_path: Path) -> None:
    directory = story(boots=2, fill=300).write(tmp_path / "log")
    assert (
        plain(directory).stdout
        == f"{ORIGIN}: 311 entries, all of them under the signature of {VKEY.rpartition('+')[0]}\n"
    )
    for pattern, place, said in (
        ("checkpoint", 45, "not the signed tree"),
        ("tile/entries/000", 30, "not the signed tree"),
    ):
        copy = tmp_path / f"copy{place}"
        shutil.copytree(directory, copy)
        flip(copy, pattern, place)
        found = plain(copy)
        assert found.returncode == 1
        assert said in found.stderr or "the signature is wrong" in found.stderr


# ---- our own witness's cosignature, by Go


def test_go_verifies_our_cosignature(tmp_path: Path) -> None:
    key = make_witness_key(tmp_path / "w.key", "site.test/w1")
    witness = Witness(key, tmp_path / "state", {ORIGIN: [decode_vkey(VKEY)]})
    directory = story(boots=1).write(tmp_path / "log")

    def answer(path: str, body: bytes) -> tuple[int, str, bytes]:
        assert path == "/add-checkpoint"
        answered = witness.answer(body, now=1_771_100_000)
        return answered.status, answered.content_type, answered.body

    with answering_posts(answer, host="127.0.0.1", port=0, limit=MAX_REQUEST) as port:
        words = ["audit", "witness", "submit", str(directory), "--url", f"http://127.0.0.1:{port}"]
        assert main([*words, "--witness-vkey", encode_vkey(key.verifier)]) == 0
    code, said = run_go(directory, VKEY, "", encode_vkey(key.verifier))
    assert (code, said.splitlines()[-1]) == (0, "cosigned: by site.test/w1"), said
    code, said = run_go(directory, VKEY, "", named_key("site.test/w2", 4).vkey)
    assert (code, said.splitlines()[-1]) == (1, "error: note has no verifiable signatures")


# ---- litewitness: Debian's 0.4.3-3 verifies requests, and cannot store what it accepted


@pytest.fixture
def witness(short: Path) -> Iterator[LiteWitness]:
    """It has seen the first boot."""
    _, size, root = story(boots=1).note().split("\n")[:3]
    with litewitness(short, {ORIGIN: (VKEY, int(size), root)}) as running:
        yield running


def send(directory: Path, witness: LiteWitness) -> None:
    submit(directory, [decode_vkey(witness.vkey)], lambda body: post(f"{witness.url}/add-checkpoint", body))


def test_litewitness_refuses_a_fork_and_a_smaller_log(witness: LiteWitness, tmp_path: Path) -> None:
    told = story(boots=3)
    told.entries[3] = told.entries[3].replace(b"CHG-17", b"CHG-18")
    with pytest.raises(ForkSeenError, match=r"the witness knows another history of .*: 422 bad consistency proof"):
        send(told.write(tmp_path / "forged"), witness)
    shorter = Story()
    shorter.begin()
    with pytest.raises(ForkSeenError, match="the witness has seen 6 entries of this log, which now has 3"):
        send(shorter.write(tmp_path / "old"), witness)
    assert b"litewitness" not in LogDirectory(tmp_path / "forged").note()


def test_litewitness_refuses_a_key_that_it_does_not_know(witness: LiteWitness, tmp_path: Path) -> None:
    thief = story(boots=1, log_key=named_key(ORIGIN, variant="thief"))
    with pytest.raises(EdgesealError, match="the witness refused the checkpoint: 403 invalid signature"):
        send(thief.write(tmp_path / "log"), witness)
    stranger = "edgeseal.audit/line-9/0a1b2c3d"
    with pytest.raises(EdgesealError, match="the witness refused the checkpoint: 403 unknown log"):
        send(story(boots=1, origin=stranger, log_key=named_key(stranger)).write(tmp_path / "other"), witness)


def test_litewitness_accepts_what_continues_the_log_and_then_fails_to_store_it(
    witness: LiteWitness, tmp_path: Path
) -> None:
    """It verified signature and consistency proof. If this fails, Debian has mended it: expect a cosignature here."""
    directory = story(boots=2, fill=700).write(tmp_path / "log")
    with pytest.raises(EdgesealError, match="does not answer"):
        send(directory, witness)
    said = witness.log.read_text()
    assert "witness.(*Witness).persistTreeHead" in said
    assert "reflect.Value.Bytes of unaddressable byte array" in said
