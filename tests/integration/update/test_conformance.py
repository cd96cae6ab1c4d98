"""What the upstream tuf-conformance suite asks of a client, asked of ours through its command line, over real HTTP.

The cases mirror the suite's: basics, expiry, rollback and fast-forward, downloads here; keys, root rotation and
delegations in test_conformance_keys.py. The suite itself runs outside of this repository (docs/adr/0015).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tuf.api.metadata import TargetFile

from appliance.machine.clock import system_clock
from appliance.update import conformance
from tests.support.tuf_client import TOP, Client, client_of, now
from tests.support.tuf_site import DAY, Repository, at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The machine's clock, as the suite's faketime would set it: days from now."""
    ahead = [0]
    real = system_clock()

    def shifted() -> Callable[[], object]:
        return lambda: type(real())(
            boot_id="0" * 32, monotonic_us=0, wall_us=real().wall_us + ahead[0] * DAY * 1_000_000
        )

    monkeypatch.setattr(conformance, "system_clock", shifted)
    return ahead


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with client_of(Repository(expires=now() + 30 * DAY), tmp_path) as made:
        yield made


# --- basics


def test_init_and_refresh(client: Client) -> None:
    assert client.init() == 0
    assert client.site.asked == []
    assert client.refresh() == 0
    assert client.asked() == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    assert client.trusted() == [(role, 1) for role in TOP]
    for role in TOP:
        assert client.stored(role) == client.repository.files[client.repository.metadata_path(role, 1)]


def test_a_download_refreshes_by_itself(client: Client) -> None:
    assert client.init() == 0
    assert client.download("nonexistent artifact") == 1
    assert client.asked() == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    assert client.trusted() == [(role, 1) for role in TOP]


@pytest.mark.parametrize("fault", ["no version", "another signature", "no JSON"])
def test_an_initial_root_that_cannot_be_trusted(fault: str, client: Client) -> None:
    root = json.loads(client.repository.trusted_root())
    if fault == "no version":
        del root["signed"]["version"]
    root["signatures"][0]["sig"] = "00" * 64
    client.init(b"{" if fault == "no JSON" else json.dumps(root).encode())
    assert client.refresh() == 1
    assert client.site.asked == []


def test_no_init(client: Client) -> None:
    assert client.refresh() == 1


@pytest.mark.parametrize(
    ("role", "trusted"),
    [
        ("root", [("root", 1)]),
        ("timestamp", [("root", 1)]),
        ("snapshot", [("root", 1), ("timestamp", 1)]),
        ("targets", [("root", 1), ("snapshot", 1), ("timestamp", 1)]),
    ],
)
def test_an_unsigned_role_ends_the_refresh_there(role: str, trusted: list[tuple[str, int]], client: Client) -> None:
    repository = client.repository
    repository.signers[role] = []
    repository.publish(*(["root"] if role == "root" else ["targets", "snapshot", "timestamp"]), bump=role == "root")
    client.init(repository.trusted_root())
    assert client.refresh() == 1
    assert client.trusted() == trusted


def test_a_timestamp_that_changed_without_a_new_version(client: Client) -> None:
    client.init()
    assert client.refresh() == 0
    client.repository.timestamp.snapshot_meta.version = 100
    client.repository.publish("timestamp", bump=False)
    before = client.stored("timestamp")
    assert client.refresh() == 0
    assert client.asked()[-1] == "timestamp.json"
    assert client.stored("timestamp") == before


def test_hashes_of_metadata(tmp_path: Path) -> None:
    repository = Repository(expires=now() + 30 * DAY, with_hashes=True)
    repository.release()
    with client_of(repository, tmp_path) as client:
        client.init()
        assert client.refresh() == 0
        repository.publish("targets")
        named = repository.snapshot.meta["targets.json"]
        assert named.hashes is not None
        named.hashes["sha256"] = hashlib.sha256(b"something else").hexdigest()
        repository.publish("snapshot", "timestamp")
        assert client.refresh() == 1
        assert (client.version("snapshot"), client.version("targets")) == (3, 2)


def test_targets_that_snapshot_does_not_name_yet(client: Client) -> None:
    client.init()
    assert client.refresh() == 0
    client.repository.publish("targets")
    assert client.refresh() == 0
    assert client.asked()[-1] == "timestamp.json"
    assert client.version("targets") == 1


def test_unknown_fields_are_kept_and_signed(client: Client) -> None:
    client.init()
    root = client.repository.root
    root.unrecognized_fields["custom-field"] = "value"
    root.roles["root"].unrecognized_fields["another-field"] = {"a": [1, None, True]}
    next(iter(root.keys.values())).unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    client.repository.publish("root")
    assert client.refresh() == 0
    assert client.stored("root") == client.repository.trusted_root(2)


def test_without_consistent_snapshots(client: Client) -> None:
    repository = client.repository
    repository.root.consistent_snapshot = False
    repository.publish("root")
    repository.add("targets", "a/b.txt", b"content")
    repository.release()
    client.init()
    assert client.download("a/b.txt") == 0
    assert client.asked() == ["2.root.json", "3.root.json", "timestamp.json", "snapshot.json", "targets.json"]
    assert client.site.asked[-1] == "targets/a/b.txt"
    assert client.downloaded() == [b"content"]


# --- expiry


def test_an_expired_root_is_kept_and_nothing_else_is_taken(client: Client) -> None:
    client.init()
    assert client.refresh() == 0
    client.repository.root.expires = at(now() - DAY)
    client.repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.trusted() == [("root", 2), ("snapshot", 1), ("targets", 1), ("timestamp", 1)]


@pytest.mark.parametrize(
    ("role", "versions"),
    [("timestamp", (1, 1, 1)), ("snapshot", (2, 1, 1)), ("targets", (2, 2, 1))],
)
def test_an_expired_role_is_not_taken(role: str, versions: tuple[int, int, int], client: Client) -> None:
    client.init()
    assert client.refresh() == 0
    client.repository.roles[role].signed.expires = at(now() - 5 * DAY)
    client.repository.release()
    assert client.refresh() == 1
    assert (client.version("timestamp"), client.version("snapshot"), client.version("targets")) == versions


def test_expired_local_metadata_still_protects_and_is_replaced(client: Client, clock: list[int]) -> None:
    client.repository.timestamp.expires = at(now() + 7 * DAY)
    client.repository.publish("timestamp")
    client.init()
    assert client.refresh() == 0
    client.repository.timestamp.expires = at(now() + 21 * DAY)
    client.repository.release()
    clock[0] = 18
    assert client.refresh() == 0
    assert (client.version("timestamp"), client.version("snapshot"), client.version("targets")) == (3, 2, 2)
    clock[0] = 22
    assert client.refresh() == 1


def test_an_expired_timestamp_protects_from_rollback(client: Client, clock: list[int]) -> None:
    client.repository.timestamp.expires = at(now() + 7 * DAY)
    client.repository.publish("timestamp")
    client.init()
    assert client.refresh() == 0
    client.repository.timestamp.version = 0
    client.repository.timestamp.expires = at(now() + 30 * DAY)
    client.repository.publish("timestamp")
    clock[0] = 18
    assert client.refresh() == 1
    assert client.version("timestamp") == 2


def test_an_expired_delegated_role(client: Client, clock: list[int]) -> None:
    repository = client.repository
    repository.delegate("targets", "delegated", paths=["delegatedpath/*"])
    repository.add("delegated", "delegatedpath/first", b"first")
    repository.add("delegated", "delegatedpath/second", b"second")
    repository.roles["delegated"].signed.expires = at(now() - DAY)
    repository.release("delegated")
    client.init()
    assert client.refresh() == 0
    assert client.download("delegatedpath/first") == 1
    assert client.downloaded() == []
    assert [role for role, _ in client.trusted()] == TOP
    repository.roles["delegated"].signed.expires = at(now() + 7 * DAY)
    repository.release("delegated")
    assert client.download("delegatedpath/first") == 0
    clock[0] = 18
    assert client.download("delegatedpath/second") == 1
    repository.roles["delegated"].signed.expires = at(now() + 21 * DAY)
    repository.release("delegated")
    assert client.download("delegatedpath/second") == 0
    assert client.downloaded() == [b"first", b"second"]


# --- rollback and fast-forward


def test_rollback_of_timestamp(client: Client) -> None:
    client.repository.publish("timestamp")
    client.init()
    assert client.refresh() == 0
    client.repository.timestamp.version = 0
    client.repository.publish("timestamp")
    assert client.refresh() == 1
    assert client.version("timestamp") == 2
    assert client.asked()[-1] == "timestamp.json"


@pytest.mark.parametrize("with_hashes", [False, True])
def test_rollback_of_snapshot(with_hashes: bool, tmp_path: Path) -> None:
    repository = Repository(expires=now() + 30 * DAY, with_hashes=with_hashes)
    with client_of(repository, tmp_path) as client:
        repository.publish("snapshot", "timestamp")
        client.init()
        assert client.refresh() == 0
        repository.snapshot.version = 0
        repository.publish("snapshot", "timestamp")
        assert client.refresh() == 1
        assert (client.version("timestamp"), client.version("snapshot")) == (2, 2)
        assert client.asked()[-1] == "timestamp.json"


@pytest.mark.parametrize("with_hashes", [False, True])
def test_rollback_of_targets(with_hashes: bool, tmp_path: Path) -> None:
    repository = Repository(expires=now() + 30 * DAY, with_hashes=with_hashes)
    with client_of(repository, tmp_path) as client:
        repository.publish("targets")
        repository.release()
        client.init()
        assert client.refresh() == 0
        repository.targets.version = 0
        repository.release()
        assert client.refresh() == 1
        assert (client.version("snapshot"), client.version("targets")) == (2, 3)


def test_a_snapshot_of_another_version_than_timestamp_says(client: Client) -> None:
    repository = client.repository
    repository.snapshot.version += 1
    repository.sign("snapshot")
    repository.files["metadata/1.snapshot.json"] = repository.roles["snapshot"].to_bytes()
    client.init()
    assert client.refresh() == 1
    assert client.trusted() == [("root", 1), ("timestamp", 1)]
    assert client.asked()[-1] == "1.snapshot.json"


@pytest.mark.parametrize(
    ("role", "rotated"),
    [("timestamp", ["timestamp"]), ("snapshot", ["snapshot", "timestamp"]), ("targets", ["snapshot"])],
)
def test_fast_forward_is_recovered_from_by_new_keys(role: str, rotated: list[str], client: Client) -> None:
    repository = client.repository
    repository.roles[role].signed.version = 99
    repository.release()
    client.init()
    assert client.refresh() == 0
    assert client.version(role) == 100
    for each in rotated:
        repository.rotate(each)
    repository.publish("root")
    repository.roles[role].signed.version = 1
    repository.release()
    assert client.refresh() == 0
    assert client.version(role) == 2


# --- downloads


@pytest.mark.parametrize("path", ["target_file.txt", "path/to/a/target_file.txt", "a b.txt", "100%25.txt", "..x/y"])
def test_a_download(path: str, client: Client) -> None:
    client.repository.add("targets", path, b"target file contents")
    prefixed = client.repository.target_path(path, b"target file contents")
    client.repository.files[prefixed.replace(" ", "%20")] = b"target file contents"
    client.repository.release()
    client.init()
    assert client.refresh() == 0
    assert client.downloaded() == []
    assert client.download(path) == 0
    assert client.downloaded() == [b"target file contents"]
    assert [each.name for each in (client.directory / "targets").iterdir()] == [quote(path, "")]


def test_a_target_that_is_there_is_not_downloaded_again(client: Client) -> None:
    client.repository.add("targets", "a", b"content")
    client.repository.release()
    client.init()
    assert client.download("a") == 0
    assert any(path.startswith("targets/") for path in client.site.asked)
    assert client.download("a") == 0
    assert not any(path.startswith("targets/") for path in client.site.asked)


def test_a_substituted_target(client: Client) -> None:
    repository = client.repository
    for name, data in (("one", b"contents of one"), ("two", b"contents of two")):
        repository.add("targets", name, data)
    repository.release()
    client.init()
    assert client.download("one") == 0
    for name in list(repository.files):
        if name.startswith("targets/"):
            repository.files[name] = b"malicious data."
    client.download("one")
    assert client.download("two") == 1
    assert client.downloaded() == [b"contents of one"]


def test_a_target_that_changes_again_and_again(client: Client) -> None:
    repository = client.repository
    client.init()
    for number in range(4):
        data = f"contents {number}".encode()
        repository.add("targets", "a", data)
        repository.release()
        assert client.download("a") == 0
        assert client.downloaded() == [data]
        served = repository.target_path("a", data)
        repository.files[served] = f"malicious{number}".encode()
        repository.release()
        client.download("a")
        assert client.downloaded() == [data]


@pytest.mark.parametrize("algorithms", [["sha256"], ["sha512"], ["sha512", "sha256"], ["blake2b-256"]])
def test_algorithms_of_a_targets_hashes(algorithms: list[str], client: Client) -> None:
    repository = client.repository
    target = TargetFile.from_data("a", b"content", algorithms)
    repository.targets.targets["a"] = target
    repository.files.update({f"targets/{digest}.a": b"content" for digest in target.hashes.values()})
    repository.release()
    client.init()
    assert client.download("a") == 0
    assert client.downloaded() == [b"content"]


@pytest.mark.parametrize("algorithm", ["unknown-hash", "shake_128"])
def test_an_algorithm_that_cannot_be_checked(algorithm: str, client: Client) -> None:
    repository = client.repository
    repository.targets.targets["a"] = TargetFile(7, {algorithm: "00" * 32}, "a")
    repository.files[f"targets/{'00' * 32}.a"] = b"content"
    repository.release()
    client.init()
    assert client.download("a") == 1
    assert client.downloaded() == []


# --- the command line itself


def test_a_wrong_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        conformance.main(["refresh"])
    assert ended.value.code == 2
    assert "--metadata-dir" in capsys.readouterr().err
    assert conformance.main(["--metadata-dir", str(tmp_path), "refresh"]) == 1
    assert capsys.readouterr().err == "error: --metadata-url is needed to refresh\n"
    assert conformance.main(["--metadata-dir", str(tmp_path), "--metadata-url", "http://127.0.0.1:1", "download"]) == 1
    assert capsys.readouterr().err == "error: --target-name and --target-dir are needed to download\n"


def test_as_a_program(client: Client) -> None:
    """As the suite starts it: a process for each command, its exit status, one line of error."""
    client.repository.add("targets", "a/b.txt", b"content")
    client.repository.release()
    root = client.directory / "root"
    root.write_bytes(client.repository.trusted_root())

    def start(*words: str) -> tuple[int, str]:
        command = [
            sys.executable,
            "-m",
            "appliance.update.conformance",
            "--metadata-dir",
            f"{client.directory}/metadata",
        ]
        ended = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert ended.stdout == ""
        return ended.returncode, ended.stderr

    where = ["--metadata-url", f"{client.site.url}/metadata/"]
    targets = ["--target-base-url", f"{client.site.url}/targets", "--target-dir", f"{client.directory}/targets"]
    assert start("init", str(root)) == (0, "")
    assert start(*where, "refresh") == (0, "")
    assert start(*where, *targets, "--target-name", "a/b.txt", "download") == (0, "")
    assert client.downloaded() == [b"content"]
    assert start(*where, *targets, "--target-name", "c", "download") == (1, "error: repository: no role names c\n")
