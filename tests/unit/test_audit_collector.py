"""The collector and the witness: what they rebuild and cosign, what they refuse, what they alarm about."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from appliance.formats.signed_note import decode_vkey
from builder.audit.alarms import Alarm
from builder.audit.collector import Collector
from builder.audit.crypto import WitnessKey, load_witness_key, make_witness_key
from builder.audit.policy import witnesses_needed
from builder.audit.verify import verify_log
from builder.audit.witness import Witness
from tests.support.audit_parts import TOPIC, envelope, envelopes, parts
from tests.support.audit_story import DEVICE, ORIGIN, Story, story
from tests.support.naive_log import named_key

NOW = 1_771_100_000
LOG = ORIGIN.rpartition("/")[2]


class Site:
    """A collector on a directory; start() is what happens after a kill, too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.witness_key = make_witness_key(directory.with_suffix(".key"), "site.test/w1")
        self.alarms: list[Alarm] = []
        self.logs = {ORIGIN: [decode_vkey(named_key(ORIGIN).vkey)]}
        self.start()

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.witness = Witness(self.witness_key, self.directory.with_suffix(".witness"), self.logs)
        self.collector = Collector(
            self.directory, self.logs, self.witness, silence_s=60, told=self.alarms.append, now=NOW
        )

    @property
    def log(self) -> Path:
        return self.directory / DEVICE / LOG

    def take(self, messages: Iterable[bytes], *, now: int = NOW) -> list[int | None]:
        return [self.collector.take(TOPIC, message, now=now) for message in messages]

    def said(self) -> list[tuple[str, str]]:
        return [(alarm.kind, alarm.text) for alarm in self.alarms]

    def standing(self) -> list[str]:
        return [alarm["kind"] for alarm in self.collector.status()["alarms"]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def require_verified(site: Site, told: Story) -> None:
    keys = [decode_vkey(told.log_key.vkey)]
    found = verify_log(site.log, keys, witnesses_needed([site.witness_key.verifier]), since=None)
    assert [finding.sentence() for finding in found.findings] == []
    assert (found.size, found.entries, found.remarks) == (len(told.entries), len(told.entries), [])
    assert [one.timestamp for one in found.signers][-1] == NOW


def test_a_log_is_rebuilt_cosigned_and_verifies(site: Site) -> None:
    told = story(boots=2)
    assert site.take(envelopes(parts(told)))[-1] == len(told.entries)
    require_verified(site, told)
    assert site.alarms == []


def test_it_grows_over_full_tiles_and_leaves_no_old_partial_ones(site: Site) -> None:
    told = story(boots=1)
    sequence = 1
    for more in (1, 240, 9, 1, 300, 770):
        start = len(told.entries) if site.log.joinpath("checkpoint").is_file() else 0
        told.fill(more)
        messages = list(envelopes(parts(told, start=start, each=100), first=sequence))
        sequence += len(messages)
        assert site.take(messages)[-1] == len(told.entries)
        require_verified(site, told)
    assert site.alarms == []


def test_a_part_that_comes_again_changes_nothing(site: Site) -> None:
    told = story(boots=2)
    messages = list(envelopes(parts(told)))
    site.take(messages)
    before = site.log.joinpath("checkpoint").read_bytes()
    assert site.take(messages) == [None] * len(messages)
    assert site.log.joinpath("checkpoint").read_bytes() == before
    assert site.alarms == []


def test_it_goes_on_after_a_kill_between_any_two_parts(site: Site) -> None:
    told = story(boots=3)
    for message in envelopes(parts(told, each=2)):
        site.take([message])
        site.start()
    require_verified(site, told)
    assert site.alarms == []


@pytest.mark.parametrize("step", ["write", "drop_old"])
def test_a_kill_after_the_cosignature(step: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the tiles are written, and after the checkpoint is."""
    told = story(boots=2)
    site.take(envelopes(parts(told, end=6)))

    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(f"builder.audit.grow.Growth.{step}", killed)
        with pytest.raises(KilledError):
            site.take(envelopes(parts(told, start=6), first=9))
    site.start()
    site.take(envelopes(parts(told, start=6), first=9))
    assert site.alarms == []
    assert site.collector.status()["logs"][0]["size"] == 11
    keys = [decode_vkey(told.log_key.vkey)]
    assert verify_log(site.log, keys, witnesses_needed([site.witness_key.verifier]), since=None).ok


def test_a_gap_is_told_and_ends_when_it_is_filled(site: Site) -> None:
    told = story(boots=2)
    first, second, third = envelopes(parts(told, each=4))
    site.take([first, third])
    assert site.said() == [("gap", "entries 4 to 8 did not come")]
    assert site.standing() == ["gap"]
    site.take([second])
    assert site.standing() == []
    require_verified(site, told)


def test_a_fork_is_told_and_not_cosigned(site: Site) -> None:
    told, other = story(boots=2), story(boots=2)
    site.take(envelopes(parts(told, end=6)))
    other.entries[5] = told.entries[5].replace(b'"tries":3', b'"tries":4')
    assert site.take(envelopes(parts(other, start=6), first=9))[-1] is None
    assert site.said() == [("fork", "entries 6 to 11 are not those of the checkpoint that the device signed")]
    assert site.collector.status()["logs"][0]["size"] == 6
    evidence = site.directory / "alarms" / f"{DEVICE}.{LOG}.fork.evidence"
    assert b"checkpoint" in evidence.read_bytes()


def test_another_tree_of_a_size_that_is_known(site: Site) -> None:
    told, other = story(boots=2), story(boots=2)
    site.take(envelopes(parts(told)))
    other.entries[5] = told.entries[5].replace(b'"tries":3', b'"tries":4')
    site.take(envelopes(parts(other, end=8), first=9))
    assert site.said()[0] == ("fork", "the device signed another tree of size 8; 11 entries are known here")


def test_a_device_that_was_put_back_is_told(site: Site) -> None:
    told = story(boots=2)
    site.take(envelopes(parts(told)))
    site.take(envelopes(parts(told, end=6), first=9))
    assert site.said() == [("rollback", "the device is back at size 6; 11 entries are known here")]


def test_a_collector_that_was_put_back_does_not_cosign_another_history(site: Site, tmp_path: Path) -> None:
    """Its directory is an old copy, the witness's memory is not."""
    told, other = story(boots=2), story(boots=2)
    site.take(envelopes(parts(told, end=6)))
    shutil.copytree(site.directory, tmp_path / "old")
    site.take(envelopes(parts(told, start=6), first=9))
    shutil.rmtree(site.directory)
    shutil.copytree(tmp_path / "old", site.directory)
    site.start()
    other.entries[8] = told.entries[8].replace(b"CHG-17", b"CHG-18")
    site.take(envelopes(parts(other, start=6), first=9))
    assert site.said() == [("fork", "the witness does not cosign size 11: two roots of size 11")]
    assert site.collector.status()["logs"][0]["size"] == 6


def test_silence_is_told_and_ends(site: Site) -> None:
    told = story(boots=1)
    site.collector.look_for_silence(now=NOW + 60)
    assert site.said() == []
    site.collector.look_for_silence(now=NOW + 61)
    site.collector.look_for_silence(now=NOW + 62)
    assert site.said() == [("silence", "no part of the log came for 61 s")]
    site.take(envelopes(parts(told)), now=NOW + 70)
    assert site.standing() == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("bad-signature", "note: no known key signed it"),
        ("unknown-log", f"a log of {DEVICE} whose key is not known here: edgeseal.audit/{DEVICE}/ffffffff"),
        ("malformed", f"a message on {TOPIC}: it is of {DEVICE}, in an envelope of line-4"),
        ("malformed", f"a message on {TOPIC}: envelope: JSON is malformed: invalid character (byte 4)"),
    ],
)
def test_what_is_not_taken(kind: str, text: str, site: Site) -> None:
    thief = story(boots=1, log_key=named_key(ORIGIN, variant="thief"))
    stranger = story(
        boots=1, origin=f"edgeseal.audit/{DEVICE}/ffffffff", log_key=named_key(f"edgeseal.audit/{DEVICE}/ffffffff")
    )
    message = {
        "no known key": lambda: envelope(parts(thief, each=99)[0], 1),
        "whose key": lambda: envelope(parts(stranger, each=99)[0], 1),
        "in an envelope": lambda: envelope(parts(story(boots=1), each=99)[0], 1, device="line-4"),
        "JSON": lambda: b"no JSON",
    }
    (make,) = [one for words, one in message.items() if words in text]
    assert site.take([make()]) == [None]
    assert site.said() == [(kind, text)]
    assert not site.log.joinpath("checkpoint").exists()


def test_a_witness_key_is_read_back(tmp_path: Path) -> None:
    made: WitnessKey = make_witness_key(tmp_path / "w.key", "site.test/w1")
    assert load_witness_key(tmp_path / "w.key").verifier == made.verifier
    assert (tmp_path / "w.key").stat().st_mode & 0o777 == 0o600
