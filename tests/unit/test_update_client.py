"""The TUF adapter without a network: what it relies on in python-tuf, limits, the trusted root, power cuts."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import tuf
from hypothesis import given
from tuf.ngclient import FetcherInterface, Updater
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

import appliance.update.metadata_store as metadata_store
from appliance.core.durable import write_durable
from appliance.core.errors import EdgesealError, VerificationError
from appliance.formats.device import UpdateConfig
from appliance.update.client import RefusedError, TargetInfo, TrustedRepository
from appliance.update.transport import NotThereError, TooMuchDataError
from tests.support.effort import examples
from tests.support.tuf_site import DAY, T0, Repository

PATH = "firmware/label-check/7.json"
DATA = b'{"version":7}\n'
ROLE = "firmware-label-check"


class Files:
    """A FileSource of a dictionary. asked: (path, limit), in order."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[tuple[str, int]] = []

    def get(self, path: str, *, at_most: int) -> bytes:
        self.asked.append((path, at_most))
        if path not in self.files:
            raise NotThereError(f"{path}: not there")
        if len(self.files[path]) > at_most:
            raise TooMuchDataError(f"{path}: too much")
        return self.files[path]


def vendor() -> Repository:
    repository = Repository()
    repository.delegate("targets", ROLE, paths=["firmware/label-check/*"])
    repository.add(ROLE, PATH, DATA)
    repository.release(ROLE)
    return repository


def client(repository: Repository, state: Path, **limits: int) -> tuple[TrustedRepository, Files]:
    files = Files(repository.files)
    config = UpdateConfig(**limits)
    return TrustedRepository(state / "tuf", repository.trusted_root(), files, config, name="site repository"), files


# --- canaries: what is used of python-tuf beyond its public interface


def test_canary_the_version_whose_inside_was_read() -> None:
    assert tuf.__version__ == "7.0.1", "read updater.py and trusted_metadata_set.py again, then change this line"


def test_canary_every_expiry_is_compared_with_reference_time(tmp_path: Path) -> None:
    """Each of the five kinds of metadata, just before and just after its last second."""
    repository = vendor()
    files = {name: json.loads(data) for name, data in repository.files.items() if name.startswith("metadata/")}
    assert len({data["signed"]["expires"] for data in files.values()}) == 1
    for moment, fine in ((T0 + 365 * DAY - 1, True), (T0 + 365 * DAY, False)):
        trusted = TrustedMetadataSet(repository.trusted_root(), EnvelopeType.METADATA)
        assert isinstance(trusted.reference_time, datetime)
        trusted.reference_time = datetime.fromtimestamp(moment, UTC)
        if not fine:
            with pytest.raises(Exception, match=r"Final root\.json is expired"):
                trusted.update_timestamp(repository.files["metadata/timestamp.json"])
            continue
        trusted.update_timestamp(repository.files["metadata/timestamp.json"])
        trusted.update_snapshot(repository.files["metadata/2.snapshot.json"])
        trusted.update_targets(repository.files["metadata/2.targets.json"])
        trusted.update_delegated_targets(repository.files[f"metadata/2.{ROLE}.json"], ROLE, "targets")


def test_canary_the_clock_is_read_in_one_place_only() -> None:
    """TrustedMetadataSet.__init__, whose reading we replace before anything is compared with it."""
    source = inspect.getsource(inspect.getmodule(TrustedMetadataSet) or TrustedMetadataSet)
    assert source.count(".now(") == inspect.getsource(TrustedMetadataSet.__init__).count(".now(") == 1
    assert source.count("is_expired(") == source.count("is_expired(self.reference_time)")
    updater = inspect.getsource(inspect.getmodule(Updater) or Updater)
    assert ".now(" not in updater
    assert "is_expired" not in updater
    assert "import time" not in updater


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("_persist_file", ["self", "filename", "data"]),
        ("_update_root_symlink", ["self"]),
        ("_load_root", ["self"]),
        ("_load_timestamp", ["self"]),
        ("_load_snapshot", ["self"]),
        ("_load_targets", ["self", "role", "parent_role"]),
        ("_download_metadata", ["self", "rolename", "length", "version"]),
    ],
)
def test_canary_the_methods_that_are_replaced_are_there(method: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(Updater, method)).parameters) == parameters


def test_canary_nothing_is_written_but_through_persist_file() -> None:
    """os.replace, symlink, mkdir and open for writing stand only in what we replace, or do not use."""
    for name, method in inspect.getmembers(Updater, inspect.isfunction):
        source = inspect.getsource(method)
        if any(word in source for word in ("os.replace", "os.symlink", "os.remove", '"wb"', "NamedTemporaryFile")):
            assert name in ("_persist_file", "_update_root_symlink", "download_target")


def test_canary_only_download_bytes_of_the_fetcher_is_used_for_metadata() -> None:
    users = {
        name
        for name, method in inspect.getmembers(Updater, inspect.isfunction)
        if "_fetcher." in inspect.getsource(method)
    }
    assert users == {"_download_metadata", "download_target"}
    assert "self._fetcher.download_bytes(" in inspect.getsource(Updater._download_metadata)
    assert FetcherInterface.__abstractmethods__ == {"_fetch"}


# --- what it does


def test_a_good_repository(tmp_path: Path) -> None:
    repository = vendor()
    trusted, files = client(repository, tmp_path)
    accepted = trusted.refresh(T0)
    assert accepted.expires == T0 + 365 * DAY
    assert (accepted.root, accepted.timestamp, accepted.snapshot, accepted.targets) == (1, 2, 2, 2)
    target = trusted.target(PATH)
    assert target is not None
    assert (target.length, target.sha256) == (14, hashlib.sha256(DATA).hexdigest())
    assert trusted.fetch(target, at_most=14) == DATA
    assert trusted.target("firmware/label-check/8.json") is None
    assert [name for name, _ in files.asked[:4]] == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/2.snapshot.json",
        "metadata/2.targets.json",
    ]
    assert sorted(path.name for path in (tmp_path / "tuf").iterdir()) == [
        f"{ROLE}.json",
        "root.json",
        "root_history",
        "snapshot.json",
        "targets.json",
        "timestamp.json",
    ]


def test_every_limit_is_the_configurations(tmp_path: Path) -> None:
    repository = vendor()
    trusted, files = client(
        repository, tmp_path, root_bytes=10_001, timestamp_bytes=10_002, snapshot_bytes=10_003, targets_bytes=10_004
    )
    trusted.refresh(T0)
    trusted.target(PATH)
    assert [limit for _, limit in files.asked] == [10_001, 10_002, 10_003, 10_004, 10_004]


def test_a_target_is_bounded_by_its_reader(tmp_path: Path) -> None:
    trusted, files = client(vendor(), tmp_path)
    trusted.refresh(T0)
    target = trusted.target(PATH)
    assert target is not None
    asked = len(files.asked)
    with pytest.raises(RefusedError) as refusal:
        trusted.fetch(target, at_most=13)
    assert str(refusal.value) == f"site repository: target {PATH}: 14 bytes, at most 13 are allowed"
    assert len(files.asked) == asked


def test_a_target_without_sha256() -> None:
    with pytest.raises(VerificationError) as refusal:
        _ = TargetInfo("x", 1, (("sha512", "00"),)).sha256
    assert str(refusal.value) == "target x: its metadata has no sha256"


def test_nothing_is_said_before_a_refresh_that_succeeded(tmp_path: Path) -> None:
    repository = vendor()
    trusted, files = client(repository, tmp_path)
    with pytest.raises(RuntimeError, match=r"^refresh\(\) comes first$"):
        trusted.target(PATH)
    trusted.refresh(T0)
    files.files = {}
    with pytest.raises(NotThereError):
        trusted.refresh(T0)
    with pytest.raises(RuntimeError, match=r"^refresh\(\) comes first$"):
        trusted.target(PATH)


@pytest.mark.parametrize("reference", [0, 253_402_300_799, 2**40, 2**53 - 1])
def test_any_whole_number_is_a_reference_time(reference: int, tmp_path: Path) -> None:
    trusted, _ = client(vendor(), tmp_path)
    if reference == 0:
        assert trusted.refresh(reference).reference_time == 0
        return
    with pytest.raises(RefusedError, match=r"signatures prove that it is 9999-12-31 23:59:59 UTC or later$"):
        trusted.refresh(reference)


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (b"", "Failed to deserialize JSON"),
        (b"{}", "Failed to deserialize JSON"),
        (None, "root was signed by 0/1 keys"),
    ],
    ids=["empty", "no metadata", "not signed by itself"],
)
def test_a_trusted_root_that_is_none(root: bytes | None, said: str, tmp_path: Path) -> None:
    repository = vendor()
    if root is None:
        broken = json.loads(repository.trusted_root())
        broken["signatures"][0]["sig"] = "00" * 64
        root = json.dumps(broken).encode()
    files = Files(repository.files)
    trusted = TrustedRepository(tmp_path / "tuf", root, files, UpdateConfig(), name="site repository")
    with pytest.raises(VerificationError) as refusal:
        trusted.refresh(T0)
    assert str(refusal.value) == (
        f"site repository: the trusted root that this device was given cannot be used: {said}"
    )
    assert files.asked == []


def test_a_role_that_snapshot_does_not_name(tmp_path: Path) -> None:
    repository = vendor()
    repository.delegate("targets", "models-label-check", paths=["models/label-check/*"])
    repository.release()
    trusted, _ = client(repository, tmp_path)
    trusted.refresh(T0)
    with pytest.raises(RefusedError) as refusal:
        trusted.target("models/label-check/1.json")
    assert str(refusal.value) == (
        "site repository: targets delegates to models-label-check, and snapshot 3 does not name it"
    )


def test_hashes_of_metadata_are_told(tmp_path: Path) -> None:
    repository = Repository(with_hashes=True)
    repository.release()
    good = repository.files["metadata/2.snapshot.json"]
    repository.files["metadata/2.snapshot.json"] = good[:-1]
    trusted, _ = client(repository, tmp_path)
    with pytest.raises(RefusedError) as refusal:
        trusted.refresh(T0)
    told = str(refusal.value)
    assert told.startswith(f"site repository: snapshot: {len(good) - 1} bytes with sha256 ")
    assert f" were sent, timestamp 2 names {len(good)} bytes with sha256 " in told


@examples(40)
@given(data=st.data())
def test_damaged_metadata_is_refused_and_never_a_crash(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Any role, any byte: refused in our words, and the next honest refresh is fine."""
    repository = _SHARED
    name = data.draw(st.sampled_from(sorted(name for name in repository.files if name.startswith("metadata/"))))
    good = repository.files[name]
    at = data.draw(st.integers(0, len(good) - 1))
    how = data.draw(st.sampled_from(("flip", "cut", "insert", "replace")))
    byte = bytes([data.draw(st.integers(0, 255))])
    bad = {
        "flip": good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :],
        "cut": good[:at],
        "insert": good[:at] + byte + good[at:],
        "replace": good[:at] + b'{"a":[1.5,null,"\\ud800"]}' + good[at + 1 :],
    }[how]
    files = {**repository.files, name: bad}
    state = tmp_path_factory.mktemp("state") / "tuf"
    trusted = TrustedRepository(state, repository.trusted_root(), Files(files), UpdateConfig(), name="x")
    try:
        trusted.refresh(T0)
        trusted.target(PATH)
    except EdgesealError:
        pass
    honest = TrustedRepository(state, repository.trusted_root(), Files(repository.files), UpdateConfig(), name="x")
    assert honest.refresh(T0).timestamp == 2
    assert honest.target(PATH) is not None


_SHARED = vendor()


# --- power cuts and full disks


class PowerCutError(BaseException):
    """Nothing may catch it."""


def _cut_at(number: int, *, written: bool) -> Callable[[Path, bytes], None]:
    """write_durable that dies at write `number`. written: the data had got there, and nobody was told."""
    done = 0

    def write(path: Path, data: bytes) -> None:
        nonlocal done
        done += 1
        if done == number and not written:
            (path.parent / f".{path.name}.half").write_bytes(data[: len(data) // 2])  # its temporary file
            raise PowerCutError
        write_durable(path, data)
        if done == number:
            raise PowerCutError

    return write


@pytest.mark.parametrize("written", [False, True], ids=["lost", "unacknowledged"])
def test_a_power_cut_at_any_write_leaves_a_directory_that_goes_on(
    written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vendor()
    old = dict(repository.files)
    repository.rotations(3)
    repository.release(ROLE)
    cuts = 0
    while True:
        cuts += 1
        state = tmp_path / str(cuts)
        before = TrustedRepository(state / "tuf", repository.trusted_root(), Files(old), UpdateConfig(), name="x")
        before.refresh(T0)
        before.target(PATH)
        monkeypatch.setattr(metadata_store, "write_durable", _cut_at(cuts, written=written))
        trusted, _ = client(repository, state)
        try:
            trusted.refresh(T0)
            trusted.target(PATH)
        except PowerCutError:
            pass
        else:
            break
        monkeypatch.setattr(metadata_store, "write_durable", write_durable)
        rebooted, _ = client(repository, state)
        accepted = rebooted.refresh(T0)
        assert (accepted.root, accepted.timestamp, accepted.snapshot, accepted.targets) == (4, 3, 3, 3)
        assert rebooted.target(PATH) is not None
        assert not [path for path in (state / "tuf").rglob(".*") if path.is_file()], "litter was left"
    assert cuts == 3 + 1 + 4 + 1  # three roots, root.json, four roles; then one that ran through


def test_a_refresh_that_brings_nothing_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash wears out, and root.json must not step back."""
    repository = vendor()
    repository.rotations(2)
    trusted, _ = client(repository, tmp_path)
    trusted.refresh(T0)
    monkeypatch.setattr(metadata_store, "write_durable", _cut_at(1, written=False))
    again, _ = client(repository, tmp_path)
    assert again.refresh(T0).root == 3


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    trusted, _ = client(vendor(), tmp_path)
    monkeypatch.setattr(metadata_store, "write_durable", full)
    with pytest.raises(EdgesealError) as refusal:
        trusted.refresh(T0)
    assert str(refusal.value) == f"{tmp_path}/tuf/root_history/1.root.json: cannot be stored: no space left on device"


def test_a_damaged_store_is_fetched_again(tmp_path: Path) -> None:
    repository = vendor()
    repository.rotations(2)
    trusted, _ = client(repository, tmp_path)
    trusted.refresh(T0)
    for path in (tmp_path / "tuf").rglob("*.json"):
        path.write_bytes(b"\0" * 100)
    again, _ = client(repository, tmp_path)
    assert again.refresh(T0).root == 3
    assert (tmp_path / "tuf/root.json").read_bytes() == repository.trusted_root(3)


def test_a_store_where_none_can_be(tmp_path: Path) -> None:
    (tmp_path / "tuf").write_text("a file")
    with pytest.raises(EdgesealError) as refusal:
        client(vendor(), tmp_path)
    assert str(refusal.value) == f"{tmp_path}/tuf: cannot be used: not a directory"
