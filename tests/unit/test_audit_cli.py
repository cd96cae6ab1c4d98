"""edgeseal audit: what a reviewer types and reads, with every refusal's exact words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.core.errors import InputError
from builder.audit.crypto import load_witness_key, make_witness_key
from builder.audit.policy import read_policy
from builder.cli.main import main
from tests.support.audit_story import ORIGIN, UPDATER, Story, story
from tests.support.naive_log import named_key

VKEY = named_key(ORIGIN).vkey
SHORT = "+".join(VKEY.split("+")[:2])
W1, W2, W3 = (named_key(f"site.test/w{number}", 4) for number in (1, 2, 3))
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def told() -> Story:
    return story(boots=2)


@pytest.fixture
def log(told: Story, tmp_path: Path) -> Path:
    return told.write(tmp_path / "log")


def run(capsys: Capture, *words: object) -> tuple[int, str, str]:
    code = main([*("audit",), *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


# ---- verify


def test_verify_in_words(log: Path, told: Story, capsys: Capture, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text(told.note(9))
    code, out, err = run(capsys, "verify", log, "--vkey", VKEY, "--since", kept)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"log   {ORIGIN}",
        f"tree  11 entries, root {json.loads(run(capsys, 'verify', log, '--vkey', VKEY, '--json')[1])['root']}",
        "read  11 entries, from 0 on",
        f"sign  {SHORT}",
        f"sign  {ORIGIN}/epoch+{told.epoch_keys[1].key_id.hex()}",
        "keys  epochs 1 to 2, handed over in order",
        "boot  1 to 2",
        "grew  since size 9",
        "",
        f"{log}: verified",
    ]


def test_verify_as_data_when_it_fails(log: Path, capsys: Capture) -> None:
    path = log / "tile/0/000.p/11"
    path.write_bytes(bytes(352))
    code, out, _ = run(capsys, "verify", log, "--vkey", VKEY, "--json")
    assert code == 1
    data = json.loads(out)
    assert (data["ok"], data["wrong"]) == (False, 12), data["findings"][11:]
    assert data["findings"][4]["index"] == 3
    assert data["findings"][4]["message"] == "is not the entry that the tree has"
    assert data["findings"][0]["message"] == "the tiles lead to another root than the signed one"
    assert run(capsys, "verify", log, "--vkey", VKEY)[1].endswith(f"{log}: NOT verified: 12 findings\n")


def test_keys_in_a_file_and_a_policy(log: Path, told: Story, tmp_path: Path, capsys: Capture) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{VKEY}\n{told.epoch_keys[0].vkey}\n")
    assert run(capsys, "verify", log, "--vkey", keys)[0] == 0
    text = told.note().rpartition("\n\n")[0] + "\n"
    note = told.note() + W1.line(text, time=1_771_000_000) + W3.line(text, time=1_771_000_000)
    (log / "checkpoint").write_text(note)
    policy = tmp_path / "policy"
    policy.write_text(
        f"# site\nlog {VKEY}\nwitness one {W1.vkey}\nwitness two {W2.vkey}\nwitness three {W3.vkey} http://w3.test/\n"
        "group some 2 one two three\nquorum some\n"
    )
    assert run(capsys, "verify", log, "--policy", policy)[0] == 0
    policy.write_text(policy.read_text().replace("group some 2", "group some all"))
    code, out, _ = run(capsys, "verify", log, "--policy", policy)
    assert code == 1
    assert out.splitlines()[0] == (
        "FAIL  checkpoint: not enough witnesses: needed 3 of (one, two, three); there: one, three"
    )
    code, out, _ = run(capsys, "verify", log, "--vkey", VKEY, "--witness-vkey", W2.vkey)
    assert code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify", "LOG"], "no key of the log was given"),
        (["verify", "LOG", "--vkey", "a+b+c"], "verifier key: not base64"),
        (["verify", "LOG", "--vkey", "nowhere"], "nowhere: cannot read the key: no such file or directory"),
        (["verify", "LOG", "--vkey", W1.vkey], "--vkey: the key of site.test/w1 is one of a witness (type 0x04)"),
        (
            ["verify", "LOG", "--vkey", VKEY, "--witness-vkey", VKEY],
            f"--witness-vkey: the key of {ORIGIN} is not one for cosignatures (type 0x04)",
        ),
        (
            ["verify", "LOG", "--vkey", VKEY, "--policy", "p", "--witness-vkey", W1.vkey],
            "--policy and --witness-vkey cannot be used together",
        ),
        (["verify", "LOG", "--vkey", VKEY, "--since", "gone"], "gone: cannot be read: no such file or directory"),
        (["verify", "EMPTY", "--vkey", VKEY], "EMPTY: there is no log"),
        (["show", "LOG", "--from", "yesterday"], "--from: `yesterday` is not a time"),
        (["prove", "LOG", "11"], "LOG: there is no entry 11: the log has 11"),
        (["diff", "LOG", "gone"], "gone: cannot read the checkpoint: no such file or directory"),
        (["witness", "submit", "LOG", "--url", "w1.test", "--witness-vkey", W1.vkey], "`w1.test/add-checkpoint` is no"),
        (["witness", "serve", "--key", "k", "--state", "s"], "no key of a log was given"),
        (["collect", "status", "EMPTY"], "EMPTY is not the directory of a collector"),
    ],
)
def test_wrong_usage(words: list[str], said: str, log: Path, tmp_path: Path, capsys: Capture) -> None:
    places = {"LOG": str(log), "EMPTY": str(tmp_path)}
    code, _, err = run(capsys, *(places.get(word, word) for word in words))
    assert code == 2
    for name, place in places.items():
        said = said.replace(name, place)
    assert err.splitlines()[0].startswith(f"error: {said}")


# ---- show


def test_show_is_a_timeline_by_boot(log: Path, capsys: Capture) -> None:
    code, out, _ = run(capsys, "show", log, "--kind", "boot-*", "--kind", "update-decided")
    assert code == 0
    assert out.splitlines() == [
        "boot 1 (00000000000000000000000000000001)",
        "       2  2026-02-13 16:26:45.003?       +5.003 s  audit      The device booted version 7 of virtual-x86_64.",
        "       3  2026-02-13 16:26:45.004?       +5.004 s  update     Version 8 will be installed: policy 4, change"
        " CHG-17.",
        "",
        "boot 2 (00000000000000000000000000000002)",
        "       7  2026-02-14 16:26:45.002?       +5.002 s  audit      The device booted version 7 of virtual-x86_64.",
        "       8  2026-02-14 16:26:45.003?       +5.003 s  update     Version 8 will be installed: policy 4, change"
        " CHG-17.",
        "",
        "time: UTC as the device's clock showed it; ~ not synchronised any more, ? never synchronised in that boot",
    ]


@pytest.mark.parametrize(
    ("words", "indices"),
    [
        ([], list(range(11))),
        (["--boot", "2"], [6, 7, 8, 9, 10]),
        (["--kind", "log-*"], [0]),
        (["--category", "audit-log"], [0, 1, 6]),
        (["--transaction", "0000000000000001"], [8, 9, 10]),
        (["--service", "edgeseal-update"], [3, 4, 5, 8, 9, 10]),
        (["--from", "2026-02-14T00:00:00Z"], [6, 7, 8, 9, 10]),
        (["--to", "2026-02-14"], [0, 1, 2, 3, 4, 5]),
        (["--from", "2026-02-14T00:00:00+02:00", "--boot", "1"], []),
    ],
)
def test_show_chooses(words: list[str], indices: list[int], log: Path, capsys: Capture) -> None:
    code, out, _ = run(capsys, "show", log, *words, "--json")
    assert code == 0
    assert [entry["index"] for entry in json.loads(out)["entries"]] == indices


def test_show_marks_moved_clocks_failures_and_what_would_move_the_cursor(tmp_path: Path, capsys: Capture) -> None:
    told = story(boots=1)
    told.quality, told.offset_us = "synchronised", 86_400_000_000 * 3
    told.say("source-failed", UPDATER, "failure", source="/dev/video0", reason="\x1b[2Jgone\n")
    told.say("source-opened", UPDATER, source="x")
    told.entries[-1] = told.entries[-1].replace(b'"kind":"source-opened"', b'"kind":"kind-of-tomorrow"')
    _, out, _ = run(capsys, "show", told.write(tmp_path / "log"), "--from", "2026-02-15")
    assert out.splitlines()[1:4] == [
        "          ! the wall clock was moved by +3.0 days before the next entry",
        "       6  2026-02-16 16:26:45.007        +5.007 s  update     FAILED Frames from /dev/video0 were refused:"
        " \\x1b[2Jgone\\n.",
        "       7  2026-02-16 16:26:45.008        +5.008 s  update     kind-of-tomorrow (source x), which is not in"
        " this version's catalogue.",
    ]


def test_report_is_one_page_without_scripts(log: Path, tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "report.html"
    assert run(capsys, "report", log, "--vkey", VKEY, "--out", page)[0] == 0
    first = page.read_text()
    assert run(capsys, "report", log, "--vkey", VKEY, "--out", page)[0] == 0
    assert page.read_text() == first
    assert "<strong>Verified.</strong>" in first
    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in first
    assert first.count("<svg ") == 2
    for word in ("<script", "javascript:", "http://", "https://", "url("):
        assert word not in first
    run(capsys, "report", log, "--out", page)
    assert "Nothing here was verified" in page.read_text()


def test_report_of_a_log_that_is_wrong_and_hostile(tmp_path: Path, capsys: Capture) -> None:
    told = story(boots=1)
    told.say("source-opened", source="<script>alert(1)</script>")
    log = told.write(tmp_path / "log")
    (log / "tile/0/000.p/7").write_bytes(bytes(7 * 32))
    page = tmp_path / "report.html"
    assert run(capsys, "report", log, "--vkey", VKEY, "--out", page)[0] == 1
    assert "NOT verified: 8 findings." in page.read_text()
    assert "<script>" not in page.read_text()


# ---- proofs


def test_a_proof_is_checked_without_the_log(log: Path, tmp_path: Path, capsys: Capture) -> None:
    proof = tmp_path / "p.tlog-proof"
    assert run(capsys, "prove", log, 8, "--out", proof)[0] == 0
    code, out, _ = run(capsys, "check-proof", proof, "--vkey", VKEY)
    assert code == 0
    assert out.splitlines()[0] == f"verified: entry 8 of 11 of {ORIGIN}, signed by {SHORT}"
    thief = named_key(ORIGIN, variant="thief").vkey
    other = named_key("edgeseal.audit/line-4/0a1b2c3d").vkey
    for words, said in (
        (["--vkey", thief], "note: no known key signed it"),
        (["--vkey", other], f"log proof: of the log {ORIGIN}, not of edgeseal.audit/line-4/0a1b2c3d"),
        (["--vkey", VKEY, "--witness-vkey", W1.vkey], "log proof: not enough witnesses: needed"),
    ):
        code, _, err = run(capsys, "check-proof", proof, *words)
        assert code == 1
        assert err.startswith(f"error: {said}")
    lines = proof.read_bytes().split(b"\n")
    lines[2] = b"index 9"
    proof.write_bytes(b"\n".join(lines))
    code, _, err = run(capsys, "check-proof", proof, "--vkey", VKEY)
    assert (code, err) == (1, "error: inclusion proof of entry 9 in a tree of 11: leads to another root\n")


# ---- diff


def test_diff(log: Path, told: Story, tmp_path: Path, capsys: Capture) -> None:
    old = tmp_path / "old"
    old.write_text(told.note(9))
    assert run(capsys, "diff", log, log)[:2] == (0, "the same log of 11 entries\n")
    assert run(capsys, "diff", old, log)[1].splitlines() == [
        "consistent: 2 entries were added to 9",
        "+ 9 Version 8 is in slot b: 61000 bytes fetched, 235000000 copied, in 4 s.",
        "+ 10 Version 8 in slot b is the next to boot, 3 times at most.",
    ]
    code, out, _ = run(capsys, "diff", log, old)
    assert (code, out) == (
        1,
        "NOT grown: the new one has 9 entries, the old one 11; it was cut or is an old copy\n",
    )
    other = story(boots=3)
    other.entries[4] = other.entries[4].replace(b"61000", b"61001")
    code, out, _ = run(capsys, "diff", log, other.write(tmp_path / "other"))
    assert (code, out) == (
        1,
        "FORK: two histories of one log, 11 and 16 entries\nthe first entry that is not the same: 4\n",
    )
    later = tmp_path / "later"
    later.write_text(other.note())
    code, out, _ = run(capsys, "diff", old, later)
    assert (code, out) == (
        1,
        "cannot be told: two sizes, and the larger one has no tiles to prove it with: give its directory\n",
    )


# ---- policies and keys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "p: there is no quorum line"),
        ("quorum none\nquorum none\n", "p:2: a second quorum line"),
        ("quorum w\n", "p:1: quorum: w is not defined before"),
        (f"witness none {W1.vkey}\n", "p:1: the name none is taken"),
        (f"witness a {W1.vkey}\nwitness b {W1.vkey}\n", "p:2: the key of witness b is there twice"),
        (f"witness a {VKEY}\n", "p:1: the key of witness a is not one for cosignatures (type 0x04)"),
        (f"log {VKEY}\nlog {VKEY}\n", f"p:2: the key of log {ORIGIN} is there twice"),
        (f"log {W1.vkey}\n", "p:1: the key of log site.test/w1 is one of a witness"),
        (f"witness a {W1.vkey}\ngroup g any a b\n", "p:2: group g: b is not defined before"),
        (f"witness a {W1.vkey}\ngroup g 2 a\n", "p:2: group g: 2 of 1 members cannot be asked for"),
        (f"witness a {W1.vkey}\ngroup g 01 a\n", "p:2: group g: 01 of 1 members cannot be asked for"),
        (f"witness a {W1.vkey}\ngroup g any a\ngroup h any a\n", "p:3: group h: a is a member already"),
        ("witness a\n", "p:1: not a line of log, witness, group or quorum with their words"),
        ("quorum\x0bnone\n", "p:1: a control character"),
    ],
)
def test_policies_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        read_policy(text.encode(), file="p")
    assert str(refused.value) == said


def test_quorums() -> None:
    text = (
        f"witness a {W1.vkey}\n\twitness  b {W2.vkey} http://b.test/\nwitness c {W3.vkey}\n"
        "group ab any a b\ngroup all all ab c\nquorum all\n"
    )
    policy = read_policy(text.encode(), file="p")
    keys = policy.witnesses
    assert policy.is_met([keys["b"], keys["c"]])
    assert not policy.is_met([keys["a"], keys["b"]])
    assert policy.missing([keys["a"]]) == "2 of (1 of (a, b), c); there: a"
    assert read_policy(b"quorum none\n", file="p").is_met([])


def test_a_witness_key_is_never_overwritten(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "w.key"
    assert run(capsys, "witness", "key", "--name", "site.test/w1", "--out", path)[0] == 0
    code, _, err = run(capsys, "witness", "key", "--name", "site.test/w1", "--out", path)
    assert code == 2
    assert err.startswith(f"error: {path}: there is a file already")
    code, _, err = run(capsys, "witness", "key", "--name", "w 1", "--out", tmp_path / "other")
    assert (code, err) == (2, "error: witness: `w 1` is no key name\n")


def test_many_witness_keys_are_read_back(tmp_path: Path) -> None:
    """Base64 may have a plus, which parts the fields, too."""
    for number in range(40):
        made = make_witness_key(tmp_path / f"{number}.key", "site.test/w1")
        assert load_witness_key(tmp_path / f"{number}.key").verifier == made.verifier
