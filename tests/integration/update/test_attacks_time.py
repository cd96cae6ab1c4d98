"""Clocks, gaps and long chains: the reference time decides, over real HTTP, whatever the machine's clock says."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tuf.api._payload as payload
import tuf.ngclient._internal.trusted_metadata_set as trusted_metadata_set

from appliance.core.errors import VerificationError
from appliance.formats.device import UpdateConfig
from appliance.update.client import ExpiredError, RefusedError
from tests.integration.update.test_attacks import DATA, PATH, ROLE, vendor
from tests.support.tuf_device import device, tree
from tests.support.tuf_site import DAY, T0, Repository

YEAR = 365 * DAY


def _stepping_back() -> Callable[[], int]:
    """A clock that loses a year whenever it is read."""
    readings: Iterator[int] = iter(range(T0 + 50 * YEAR, 0, -YEAR))
    return lambda: next(readings)


CLOCKS: dict[str, Callable[[], Callable[[], int]]] = {
    "1970": lambda: lambda: 0,
    "2100": lambda: lambda: 4_102_444_800,
    "stepping back": _stepping_back,
}


def set_clock(monkeypatch: pytest.MonkeyPatch, now: Callable[[], int]) -> list[int]:
    """The process's clock, wherever python-tuf or we could read it. Returns what was read."""
    read: list[int] = []

    def moment() -> int:
        read.append(now())
        return read[-1]

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.fromtimestamp(moment(), tz)

    monkeypatch.setattr(trusted_metadata_set, "datetime", SimpleNamespace(datetime=Clock, timezone=datetime.timezone))
    monkeypatch.setattr(payload, "datetime", Clock)
    monkeypatch.setattr(time, "time", moment)
    return read


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_the_machines_clock_decides_nothing(
    clock: Callable[[], Callable[[], int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vendor()
    with device(repository, tmp_path) as vendors:
        read = set_clock(monkeypatch, clock())
        assert vendors.install(PATH, T0) == DATA
        assert vendors.restarted().install(PATH, T0 + 364 * DAY) == DATA
        with pytest.raises(ExpiredError) as refusal:
            vendors.restarted().install(PATH, T0 + 365 * DAY)
        assert str(refusal.value) == (
            "vendor repository: root 1 expired on 2027-07-01 10:00:00 UTC, and signatures prove that it is "
            "2027-07-01 10:00:00 UTC or later"
        )
        assert read, "python-tuf no longer reads this clock: the test must find out which one it reads"


def test_a_device_without_a_clock_starts_from_its_builds_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No RTC, no NTP, nothing persisted: T_low is the image's epoch, and metadata older than the image is refused."""
    set_clock(monkeypatch, lambda: 0)
    repository = vendor()
    with device(repository, tmp_path) as fresh:
        assert fresh.install(PATH, T0 - 30 * DAY) == DATA
    later = Repository(expires=T0 - DAY)
    with device(later, tmp_path / "later") as built_today:
        with pytest.raises(ExpiredError, match="root 1 expired on 2026-06-30 10:00:00 UTC"):
            built_today.install(PATH, T0)
        assert tree(tmp_path / "later").keys() == {"root.json", "root_history/1.root.json"}


def test_ten_years_in_a_drawer_and_forty_root_rotations(tmp_path: Path) -> None:
    """Everything that the device has, its root included, expired long ago; the chain leads to what is valid now."""
    repository = vendor()
    with device(repository, tmp_path) as drawer:
        assert drawer.install(PATH, T0) == DATA
        now = T0 + 10 * YEAR
        repository.rotations(39)
        repository.renew(now + YEAR)
        for role in ("targets", "snapshot", "timestamp"):
            repository.rotate(role)
        repository.rotations(1)
        new = b'{"version":400}\n'
        repository.add(ROLE, "firmware/label-check/400.json", new)
        repository.publish(ROLE, "targets", "snapshot", "timestamp")
        woken = drawer.restarted()
        assert woken.install("firmware/label-check/400.json", now) == new
        accepted = woken.client.refresh(now)
        assert (accepted.root, accepted.expires) == (41, now + YEAR)
    with device(repository, tmp_path / "new", root=repository.trusted_root(41)) as new_image:
        assert new_image.install("firmware/label-check/400.json", now) == new


def test_a_newer_image_brings_a_newer_root_and_an_older_slot_an_older_one(tmp_path: Path) -> None:
    """Both slots use one state directory: the sealed root is where trust begins, the cached chain is where it ends."""
    repository = vendor()
    repository.rotations(5)
    with device(repository, tmp_path, root=repository.trusted_root(4)) as newer:
        assert newer.client.refresh(T0).root == 6
    with device(repository, tmp_path, root=repository.trusted_root(1)) as older:
        assert older.client.refresh(T0).root == 6
        asked = [path for path in older.site.asked if "root" in path]
        assert asked == ["metadata/2.root.json", "metadata/3.root.json", "metadata/7.root.json"]


def test_a_cached_root_is_not_trusted_by_itself(tmp_path: Path) -> None:
    """Whoever can write the state directory makes no root: the chain from the sealed one must lead there."""
    repository, thief = vendor(), vendor()
    thief.rotations(1)
    with device(repository, tmp_path) as vendors:
        vendors.client.refresh(T0)
        (tmp_path / "tuf/root.json").write_bytes(thief.trusted_root(2))
        (tmp_path / "tuf/root_history/2.root.json").write_bytes(thief.trusted_root(2))
        assert vendors.restarted().client.refresh(T0).root == 1
        assert (tmp_path / "tuf/root.json").read_bytes() == repository.trusted_root(1)


def test_a_thousand_root_rotations_in_one_refresh(tmp_path: Path) -> None:
    repository = vendor()
    repository.rotations(1000)
    with device(repository, tmp_path, config=UpdateConfig(root_rotations=1000)) as vendors:
        began = time.perf_counter()
        assert vendors.client.refresh(T0).root == 1001
        first = time.perf_counter() - began
        restarted = vendors.restarted()
        began = time.perf_counter()
        assert restarted.client.refresh(T0).root == 1001
        again = time.perf_counter() - began
        assert vendors.site.asked.count("metadata/500.root.json") == 1
    print(f"1,000 root rotations: {first:.1f} s over HTTP and to disk, {again:.1f} s from disk at the next start")


def test_a_chain_longer_than_the_limit_is_finished_in_the_next_refreshes(tmp_path: Path) -> None:
    """Stored roots do not count against the limit, else a device would stand still for ever."""
    repository = vendor()
    repository.rotations(5)
    with device(repository, tmp_path, config=UpdateConfig(root_rotations=2)) as vendors:
        assert [vendors.restarted().client.refresh(T0).root for _ in range(4)] == [3, 5, 6, 6]


def test_freeze_before_the_last_day_is_accepted_and_reported(tmp_path: Path) -> None:
    """A replayed timestamp cannot be told from a quiet vendor; what is reported is until when it counts."""
    repository = vendor()
    frozen = dict(repository.files)
    with device(repository, tmp_path) as vendors:
        accepted = vendors.client.refresh(T0)
        repository.publish(ROLE, "targets", "snapshot", "timestamp")
        repository.files.clear()
        repository.files.update(frozen)
        before = tree(tmp_path)
        again = vendors.restarted().client.refresh(T0 + 364 * DAY)
        assert (again.timestamp, again.expires) == (accepted.timestamp, T0 + 365 * DAY)
        assert tree(tmp_path) == before


def test_fast_forward_is_healed_by_new_online_keys(tmp_path: Path) -> None:
    """A thief of the online keys drives the versions up; honest ones are below until root revokes the keys."""
    repository = vendor()
    with device(repository, tmp_path) as vendors:
        vendors.client.refresh(T0)
        honest = (repository.snapshot.version, repository.timestamp.version)
        repository.snapshot.version = repository.timestamp.version = 2**31
        repository.publish("snapshot", "timestamp")
        assert vendors.restarted().client.refresh(T0).timestamp == 2**31 + 1
        repository.snapshot.version, repository.timestamp.version = honest
        repository.publish("snapshot", "timestamp")
        with pytest.raises(RefusedError) as refusal:
            vendors.restarted().client.refresh(T0)
        assert str(refusal.value) == (
            "vendor repository: timestamp 3 is older than timestamp 2147483649, which was accepted before"
        )
        repository.rotate("snapshot")
        repository.rotate("timestamp")
        repository.publish("root", "snapshot", "timestamp")
        assert vendors.restarted().install(PATH, T0) == DATA


@pytest.mark.parametrize(
    "path", ["firmware/other/1.json", "firmware/label-check/deeper/7.json", "models/label-check/1.json", "7.json"]
)
def test_extraneous_dependency_a_role_speaks_only_for_its_paths(path: str, tmp_path: Path) -> None:
    """The keys of one product sign a target of another: nobody looks at it."""
    repository = vendor()
    repository.add(ROLE, path, b"{}")
    repository.publish(ROLE, "targets", "snapshot", "timestamp")
    with device(repository, tmp_path) as vendors:
        vendors.client.refresh(T0)
        assert vendors.client.target(path) is None
        with pytest.raises(VerificationError, match=f"vendor repository: no role names {path}"):
            vendors.install(path, T0)


@pytest.mark.parametrize(
    ("role", "never"),
    [
        ("timestamp", "metadata/3.snapshot.json"),
        ("snapshot", "metadata/3.targets.json"),
        ("targets", f"metadata/3.{ROLE}.json"),
        (ROLE, "targets/firmware/label-check/"),
    ],
)
def test_what_unsigned_metadata_names_is_never_asked_for(role: str, never: str, tmp_path: Path) -> None:
    """As far as TUF allows, nothing is acted on before its signature is checked."""
    repository = vendor()
    with device(repository, tmp_path) as vendors:
        vendors.install(PATH, T0)
        vendors.site.asked.clear()
        repository.signers[role] = repository.signers["root"]
        repository.add(ROLE, PATH, b"new")
        repository.publish(ROLE, "targets", "snapshot", "timestamp")
        with pytest.raises(RefusedError, match=r" has 0 of the [12] signatures that "):
            vendors.restarted().install(PATH, T0)
        assert not [path for path in vendors.site.asked if path.startswith(never)]


def test_metadata_over_its_limit_is_never_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = vendor()
    with device(repository, tmp_path, config=UpdateConfig(timestamp_bytes=1024)) as vendors:
        vendors.client.refresh(T0)
        parsed: list[int] = []
        real = trusted_metadata_set.Metadata.from_bytes.__func__  # type: ignore[attr-defined]

        def from_bytes(cls: type, data: bytes, *rest: object) -> object:
            parsed.append(len(data))
            return real(cls, data, *rest)

        monkeypatch.setattr(trusted_metadata_set.Metadata, "from_bytes", classmethod(from_bytes))
        repository.timestamp.unrecognized_fields["padding"] = "x" * 2000
        repository.publish("timestamp")
        with pytest.raises(Exception, match="at most 1024 are allowed"):
            vendors.restarted().client.refresh(T0)
        assert parsed
        assert max(parsed) < 10_000
        assert len(repository.files["metadata/timestamp.json"]) not in parsed


def test_an_expiry_that_is_moved_needs_a_signature(tmp_path: Path) -> None:
    repository = vendor()
    with device(repository, tmp_path) as vendors:
        vendors.client.refresh(T0)
        repository.publish("timestamp")
        signed = repository.files["metadata/timestamp.json"]
        repository.files["metadata/timestamp.json"] = moved = signed.replace(b"2027-07", b"2037-07")
        assert moved != signed
        with pytest.raises(RefusedError) as refusal:
            vendors.restarted().client.refresh(T0)
        assert str(refusal.value) == "vendor repository: timestamp 3 has 0 of the 1 signatures that root 1 demands"
        assert (refusal.value.role, refusal.value.reason) == ("timestamp", "signatures")
