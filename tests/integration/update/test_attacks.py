"""The attack table: what a repository, a network or a clock can do to a device, against the code that devices run.

Real HTTP on loopback. A row that is refused leaves the state directory as it was, but for the files that it names:
metadata that was signed and accepted before the refusal, which TUF keeps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance.core.errors import EdgesealError
from appliance.formats.device import UpdateConfig
from appliance.update.client import ExpiredError
from tests.support.tuf_device import device, tree
from tests.support.tuf_site import DAY, T0, Handler, Repository, Site, dripping, endless

PATH = "firmware/label-check/7.json"
DATA = b'{"version":7}\n'
ROLE = "firmware-label-check"
CONFIG = UpdateConfig(stall_s=1, slowest=1000)


def vendor(*, with_hashes: bool = False) -> Repository:
    """Root and targets 2 of 3, one product; every role at version 2."""
    repository = Repository(with_hashes=with_hashes)
    repository.rotate("root", count=3, threshold=2)
    repository.rotate("targets", count=3, threshold=2)
    repository.publish("root", bump=False)
    repository.delegate("targets", ROLE, paths=["firmware/label-check/*"])
    repository.add(ROLE, PATH, DATA)
    repository.publish(ROLE, "targets", "snapshot", "timestamp")
    return repository


@dataclass(frozen=True)
class Row:
    """attack: what is done after the device accepted the repository. said: the whole message."""

    name: str
    attack: Callable[[Repository, Site], object]
    said: str
    changed: frozenset[str] = field(default_factory=frozenset)
    t_low: int = T0


def _replace(path: str, data: bytes) -> Callable[[Repository, Site], object]:
    return lambda repository, _: repository.files.__setitem__(path, data)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


TARGET = f"targets/firmware/label-check/{_sha(DATA)}.7.json"
EVIL = b'{"version":6}\n'


def _replay(path: str, by: str) -> Callable[[Repository, Site], object]:
    """Serve `by` as it is now in the place of `path`, after an honest release."""

    def attack(repository: Repository, _: Site) -> None:
        old = repository.files[by]
        repository.publish(ROLE, "targets", "snapshot", "timestamp")
        repository.files[path] = old

    return attack


def _older_timestamp(repository: Repository, _: Site) -> None:
    repository.timestamp.version = 0
    repository.publish("timestamp")


def _older_snapshot(repository: Repository, _: Site) -> None:
    repository.timestamp.snapshot_meta.version = 1
    repository.publish("timestamp")


def _older_targets(repository: Repository, _: Site) -> None:
    repository.snapshot.meta["targets.json"].version = 1
    repository.publish("snapshot", "timestamp")


def _older_product(repository: Repository, _: Site) -> None:
    repository.snapshot.meta[f"{ROLE}.json"].version = 1
    repository.publish("snapshot", "timestamp")


def _dropped_product(repository: Repository, _: Site) -> None:
    del repository.snapshot.meta[f"{ROLE}.json"]
    repository.publish("snapshot", "timestamp")


def _one_key(role: str) -> Callable[[Repository, Site], object]:
    """The holder of one key of `role`, and of all online keys, publishes."""

    def attack(repository: Repository, _: Site) -> None:
        repository.signers[role] = repository.signers[role][:1]
        repository.publish(*([role] if role == "root" else [role, "snapshot", "timestamp"]))

    return attack


def _own_root(repository: Repository, _: Site) -> None:
    """Whoever has one of three root keys makes a root of his own keys, and signs with those too."""
    stolen = repository.signers["root"][:1]
    repository.rotate("root", count=3, threshold=2)
    repository.signers["root"] += stolen
    repository.publish("root")


def _unfinished_root(repository: Repository, _: Site) -> None:
    """The old keys signed, the new ones did not."""
    old = repository.signers["root"]
    repository.rotate("root", count=3, threshold=2)
    repository.signers["root"] = [*old, repository.signers["root"][0]]
    repository.publish("root")


def _revoked(role: str) -> Callable[[Repository, Site], object]:
    """root 2 takes the keys of `role` away; they go on signing."""

    def attack(repository: Repository, _: Site) -> None:
        old = repository.signers[role]
        repository.rotate(role)
        repository.publish("root")
        repository.signers[role] = old
        repository.publish(*{"timestamp": ["timestamp"], "snapshot": ["snapshot", "timestamp"]}[role])

    return attack


def _revoked_product(repository: Repository, _: Site) -> None:
    stolen = repository.signers.pop(ROLE)
    delegations = repository.targets.delegations
    assert delegations is not None and delegations.roles is not None
    del delegations.roles[ROLE]
    repository.roles.pop(ROLE)
    repository.delegate("targets", ROLE, paths=["firmware/label-check/*"])
    repository.roles[ROLE].signed.version = 2
    repository.signers[ROLE] = stolen
    repository.publish(ROLE, "targets", "snapshot", "timestamp")


def _other_product_signs(repository: Repository, _: Site) -> None:
    repository.delegate("targets", "firmware-other", paths=["firmware/other/*"])
    repository.signers[ROLE] = repository.signers["firmware-other"]
    repository.publish(ROLE, "firmware-other", "targets", "snapshot", "timestamp")


def _skipped_root(repository: Repository, _: Site) -> None:
    repository.root.version += 1
    repository.publish("root")
    repository.files["metadata/2.root.json"] = repository.files["metadata/3.root.json"]


def _not_metadata(path: str, data: bytes) -> Callable[[Repository, Site], object]:
    def attack(repository: Repository, _: Site) -> None:
        repository.publish(ROLE, "targets", "snapshot", "timestamp")
        repository.files[path] = data

    return attack


def _answer(path: str, make: Callable[[Site], Callable[[Handler], None]]) -> Callable[[Repository, Site], object]:
    def attack(repository: Repository, site: Site) -> None:
        repository.publish(ROLE, "targets", "snapshot", "timestamp")
        site.answers[path] = make(site)

    return attack


def _expired(role: str) -> Callable[[Repository, Site], object]:
    def attack(repository: Repository, _: Site) -> None:
        repository.roles[role].signed.expires = repository.roles[role].signed.expires.replace(year=2026, month=8)
        order = {"root": ["root"], "timestamp": ["timestamp"], "snapshot": ["snapshot", "timestamp"]}
        repository.publish(*order.get(role, [role, "snapshot", "timestamp"]))

    return attack


def _half(handler: Handler) -> None:
    handler.say(200, b"{", Content_Length="14")
    handler.hang_up()


def _changed(*names: str) -> frozenset[str]:
    return frozenset(names)


YEAR_LATER = T0 + 366 * DAY
ROWS = [
    # --- arbitrary package, wrong size
    Row(
        "arbitrary package: other bytes of the same length",
        _replace(TARGET, EVIL),
        f"vendor repository: target {PATH}: 14 bytes with sha256 {_sha(EVIL)} were sent, "
        f"14 bytes with sha256 {_sha(DATA)} are signed",
    ),
    Row(
        "wrong size: a shorter package",
        _replace(TARGET, DATA[:5]),
        f"vendor repository: target {PATH}: 5 bytes with sha256 {_sha(DATA[:5])} were sent, "
        f"14 bytes with sha256 {_sha(DATA)} are signed",
    ),
    Row(
        "wrong size: a longer package",
        _replace(TARGET, DATA + b"x"),
        f"vendor repository: {TARGET}: 15 bytes are announced, at most 14 are allowed",
    ),
    Row(
        "wrong size: it ends early",
        _answer(TARGET, lambda _: _half),
        f"vendor repository: {TARGET}: the connection was lost",
        _changed("timestamp.json", "snapshot.json", "targets.json", f"{ROLE}.json"),
    ),
    Row(
        "a package that is not there",
        lambda repository, _: repository.files.pop(TARGET),
        f"vendor repository: {TARGET}: the server has no such file (404)",
    ),
    # --- rollback
    Row(
        "rollback of timestamp",
        _older_timestamp,
        "vendor repository: timestamp 1 is older than timestamp 2, which was accepted before",
    ),
    Row(
        "rollback of snapshot",
        _older_snapshot,
        "vendor repository: timestamp 3 names snapshot 1, and snapshot 2 was accepted before",
    ),
    Row(
        "rollback of targets",
        _older_targets,
        "vendor repository: snapshot 3 names targets 1, and targets 2 was accepted before",
        _changed("timestamp.json"),
    ),
    Row(
        "rollback of a product's metadata",
        _older_product,
        f"vendor repository: snapshot 3 names {ROLE} 1, and {ROLE} 2 was accepted before",
        _changed("timestamp.json"),
    ),
    Row(
        "a product is dropped from snapshot",
        _dropped_product,
        f"vendor repository: snapshot 3 no longer names {ROLE}",
        _changed("timestamp.json"),
    ),
    # --- freeze
    Row(
        "freeze: the accepted timestamp once more, after its last day",
        lambda *_: None,
        "vendor repository: root 1 expired on 2027-07-01 10:00:00 UTC, and signatures prove that it is "
        "2027-07-02 10:00:00 UTC or later",
        t_low=YEAR_LATER,
    ),
    *(
        Row(
            f"freeze: {role} has expired",
            _expired(role),
            f"vendor repository: {role} {version} expired on 2026-08-01 10:00:00 UTC, and signatures prove that it is "
            "2026-08-01 10:00:00 UTC or later",
            _changed(*changed),
            t_low=T0 + 31 * DAY,
        )
        for role, version, changed in (
            ("root", 2, ("root.json", "root_history/2.root.json")),
            ("timestamp", 3, ()),
            ("snapshot", 3, ("timestamp.json",)),
            ("targets", 3, ("timestamp.json", "snapshot.json")),
            (ROLE, 3, ("timestamp.json", "snapshot.json")),
        )
    ),
    # --- mix-and-match
    Row(
        "mix-and-match: yesterday's snapshot under today's timestamp",
        _replay("metadata/3.snapshot.json", "metadata/2.snapshot.json"),
        "vendor repository: snapshot 2 was sent, timestamp 3 names snapshot 3",
        _changed("timestamp.json"),
    ),
    Row(
        "mix-and-match: yesterday's targets under today's snapshot",
        _replay("metadata/3.targets.json", "metadata/2.targets.json"),
        "vendor repository: targets 2 was sent, snapshot 3 names targets 3",
        _changed("timestamp.json", "snapshot.json"),
    ),
    Row(
        "mix-and-match: yesterday's product under today's snapshot",
        _replay(f"metadata/3.{ROLE}.json", f"metadata/2.{ROLE}.json"),
        f"vendor repository: {ROLE} 2 was sent, snapshot 3 names {ROLE} 3",
        _changed("timestamp.json", "snapshot.json", "targets.json"),
    ),
    Row(
        "mix-and-match: one role's metadata in the place of another's",
        _replay("metadata/3.snapshot.json", "metadata/2.targets.json"),
        "vendor repository: snapshot: targets metadata was sent in its place",
        _changed("timestamp.json"),
    ),
    # --- endless data
    *(
        Row(
            f"endless data: {path}, {'announced' if announce else 'in chunks'}",
            _answer(path, lambda site, announce=announce: endless(site, announce=announce)),  # type: ignore[misc]
            f"vendor repository: {path}: "
            + (
                f"{announce} bytes are announced, at most {limit} are"
                if announce
                else f"more than the {limit} bytes that are"
            )
            + " allowed",
            _changed(*changed),
        )
        for path, limit, changed in (
            ("metadata/2.root.json", 512_000, ()),
            ("metadata/timestamp.json", 16_384, ()),
            ("metadata/3.snapshot.json", 2_000_000, ("timestamp.json",)),
            ("metadata/3.targets.json", 5_000_000, ("timestamp.json", "snapshot.json")),
            (TARGET, 14, ("timestamp.json", "snapshot.json", "targets.json", f"{ROLE}.json")),
        )
        for announce in (None, 1 << 40)
    ),
    # --- slow retrieval
    Row(
        "slow retrieval: a byte now and then",
        _answer("metadata/timestamp.json", lambda site: dripping(site, b" " * 10_000, every_s=0.05)),
        "vendor repository: metadata/timestamp.json: slower than 1000 bytes per second",
    ),
    Row(
        "slow retrieval: headers a byte at a time",
        _answer("metadata/timestamp.json", lambda site: dripping(site, b"", every_s=0.05, headers_too=True)),
        "vendor repository: metadata/timestamp.json: no answer for 1 s",
    ),
    Row(
        "slow retrieval: nothing at all",
        _answer("metadata/timestamp.json", lambda site: lambda _: (site.ended.wait(30), None)[1]),
        "vendor repository: metadata/timestamp.json: no answer for 1 s",
    ),
    Row(
        "slow retrieval: it stops in the middle",
        _answer("metadata/timestamp.json", lambda site: dripping(site, b" " * 10_000, every_s=30)),
        "vendor repository: metadata/timestamp.json: no byte for 1 s",
    ),
    Row(
        "slow retrieval: the target",
        _answer(TARGET, lambda site: dripping(site, DATA, every_s=0.4)),
        f"vendor repository: {TARGET}: slower than 1000 bytes per second",
        _changed("timestamp.json", "snapshot.json", "targets.json", f"{ROLE}.json"),
    ),
    # --- keys
    Row(
        "key compromise below the threshold: root",
        _one_key("root"),
        "vendor repository: root 2 has 1 of the 2 signatures that root 1 demands",
    ),
    Row(
        "key compromise below the threshold: a root of the thief's keys",
        _own_root,
        "vendor repository: root 2 has 1 of the 2 signatures that root 1 demands",
    ),
    Row(
        "a root that its own keys did not sign",
        _unfinished_root,
        "vendor repository: root 2 has 1 of the 2 signatures that root 2 demands",
    ),
    Row(
        "key compromise below the threshold: targets",
        _one_key("targets"),
        "vendor repository: targets 3 has 1 of the 2 signatures that root 1 demands",
        _changed("timestamp.json", "snapshot.json"),
    ),
    Row(
        "revoked key: timestamp",
        _revoked("timestamp"),
        "vendor repository: timestamp 3 has 0 of the 1 signatures that root 2 demands",
        _changed("root.json", "root_history/2.root.json"),
    ),
    Row(
        "revoked key: snapshot",
        _revoked("snapshot"),
        "vendor repository: snapshot 3 has 0 of the 1 signatures that root 2 demands",
        _changed("root.json", "root_history/2.root.json", "timestamp.json"),
    ),
    Row(
        "revoked key: a product",
        _revoked_product,
        f"vendor repository: {ROLE} 3 has 0 of the 1 signatures that targets 3 demands",
        _changed("timestamp.json", "snapshot.json", "targets.json"),
    ),
    Row(
        "another product's key",
        _other_product_signs,
        f"vendor repository: {ROLE} 3 has 0 of the 1 signatures that targets 3 demands",
        _changed("timestamp.json", "snapshot.json", "targets.json"),
    ),
    Row(
        "a root that skips one",
        _skipped_root,
        "vendor repository: root 3 was sent in place of root 2",
    ),
    # --- no metadata
    Row(
        "timestamp is no JSON",
        _not_metadata("metadata/timestamp.json", b"\x00\xff"),
        "vendor repository: timestamp: this is not TUF metadata",
    ),
    Row(
        "JSON as deep as the limit allows",
        _not_metadata("metadata/timestamp.json", b"[" * 16_384),
        "vendor repository: timestamp: this is not TUF metadata",
    ),
    Row(
        "an empty snapshot",
        _not_metadata("metadata/3.snapshot.json", b""),
        "vendor repository: snapshot: this is not TUF metadata",
        _changed("timestamp.json"),
    ),
    # --- the server
    Row(
        "a redirect",
        _answer(
            "metadata/timestamp.json", lambda _: lambda handler: handler.say(302, b"", Location="/metadata/1.root.json")
        ),
        "vendor repository: metadata/timestamp.json: the server sends us elsewhere (302); redirects are not followed",
    ),
    Row(
        "a server in trouble at the end of the root chain",
        _answer("metadata/2.root.json", lambda _: lambda handler: handler.say(503, b"")),
        "vendor repository: metadata/2.root.json: the server is in trouble (503)",
    ),
    Row(
        "no timestamp",
        lambda repository, _: repository.files.pop("metadata/timestamp.json"),
        "vendor repository: metadata/timestamp.json: the server has no such file (404)",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_attack_is_refused(row: Row, tmp_path: Path) -> None:
    repository = vendor()
    with device(repository, tmp_path, config=CONFIG) as installed:
        assert installed.install(PATH, T0) == DATA
        honest = dict(repository.files)
        row.attack(repository, installed.site)
        before = tree(tmp_path)
        with pytest.raises(EdgesealError) as refusal:
            installed.restarted().install(PATH, row.t_low)
        assert str(refusal.value) == row.said
        assert isinstance(refusal.value, ExpiredError) == (" expired on " in row.said)
        after = tree(tmp_path)
        assert {name for name in before | after if before.get(name) != after.get(name)} == row.changed
        if not row.changed:
            repository.files.clear()
            repository.files.update(honest)
            installed.site.answers.clear()
            assert installed.restarted().install(PATH, T0) == DATA, "the attack must not outlive itself"
