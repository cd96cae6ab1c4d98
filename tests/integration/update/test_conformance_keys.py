"""What the upstream tuf-conformance suite asks about keys, thresholds, root rotation and delegations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Delegations, Metadata, SuccinctRoles, Targets

from tests.support.tuf_client import TOP, Client, client_of, now
from tests.support.tuf_site import DAY, Repository


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with client_of(Repository(expires=now() + 30 * DAY), tmp_path) as made:
        yield made


# --- keys


KINDS: dict[str, Callable[[], Signer]] = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa": CryptoSigner.generate_ecdsa,
    "rsassa-pss-sha256": CryptoSigner.generate_rsa,
    "rsa-pkcs1v15-sha256": lambda: CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_keys(kind: str, client: Client) -> None:
    repository = client.repository
    client.init()
    old = repository.signers["root"]
    for role in ("root", "timestamp", "snapshot", "targets"):
        repository.set_keys(role, [KINDS[kind]()], threshold=1, also=old if role == "root" else None)
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.trusted() == [(role, 2) for role in TOP]


def test_a_threshold_above_the_number_of_keys(client: Client) -> None:
    client.init()
    assert client.refresh() == 0
    client.repository.rotate("snapshot", count=5, threshold=6)
    client.repository.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert (client.version("root"), client.version("snapshot")) == (2, 1)


def _change(repository: Repository, path: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change published metadata in ways that python-tuf's API does not let one."""
    data = json.loads(repository.files[path])
    change(data)
    repository.files[path] = json.dumps(data).encode()


def test_an_identical_key_nine_times(client: Client) -> None:
    """root may be refused for it, or the key counts once; the snapshot is not taken."""
    repository = client.repository
    client.init()
    signer = CryptoSigner.generate_ed25519()
    repository.set_keys("snapshot", [signer], threshold=6)
    repository.root.roles["snapshot"].keyids *= 9
    repository.publish("root", "snapshot", "timestamp")
    _change(repository, "metadata/2.snapshot.json", lambda data: data.update(signatures=data["signatures"] * 9))
    assert client.refresh() == 1
    assert "snapshot" not in dict(client.trusted())


@pytest.mark.parametrize("threshold", [1, 2])
def test_a_keyid_twice_among_the_signatures(threshold: int, client: Client) -> None:
    """Also when one of them would be enough."""
    repository = client.repository
    client.init()
    repository.rotate("snapshot", count=2, threshold=threshold)
    repository.signers["snapshot"] = repository.signers["snapshot"][:1]
    repository.publish("root", "snapshot", "timestamp")
    _change(repository, "metadata/2.snapshot.json", lambda data: data.update(signatures=data["signatures"] * 2))
    assert client.refresh() == 1
    assert "snapshot" not in dict(client.trusted())


def test_two_of_three_signatures(client: Client) -> None:
    repository = client.repository
    repository.rotate("snapshot", count=3, threshold=3)
    repository.publish("root", "snapshot", "timestamp")
    client.init(repository.trusted_root(1))
    assert client.refresh() == 0
    repository.signers["snapshot"].pop()
    repository.release()
    assert client.refresh() == 1
    assert client.version("snapshot") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_signature_of_each_kind(kind: str, client: Client) -> None:
    repository = client.repository
    client.init()
    extra = KINDS[kind]()
    repository.set_keys("root", [*repository.signers["root"], extra], threshold=2)
    repository.publish("root")
    assert client.refresh() == 0
    repository.publish("root")
    other = repository.roles["root"].signatures[extra.public_key.keyid].signature
    _change(
        repository,
        "metadata/3.root.json",
        lambda data: [
            signature.update(sig=json.loads(repository.trusted_root(2))["signatures"][place]["sig"])
            for place, signature in enumerate(data["signatures"])
            if signature["keyid"] == extra.public_key.keyid
        ],
    )
    assert other not in repository.trusted_root(3).decode()
    assert client.refresh() == 1
    assert client.version("root") == 2


@pytest.mark.parametrize("bad", ["00" * 64, "", "no hex"])
def test_a_wrong_signature_beside_enough_right_ones(bad: str, client: Client) -> None:
    repository = client.repository
    client.init()
    repository.rotate("timestamp", count=2, threshold=1)
    repository.publish("root", "timestamp")
    _change(repository, "metadata/timestamp.json", lambda data: data["signatures"][0].update(sig=bad))
    assert client.refresh() == 0


@dataclass(frozen=True)
class Keys:
    """One version's keys and threshold, and which keys signed it. fine: whether a client takes it."""

    keys: tuple[int, ...]
    threshold: int
    signed: tuple[int, ...]
    fine: bool = True


FIVE, OTHER = (0, 1, 2, 3, 4), (0, 1, 3, 4, 5)
ROOTS: dict[str, list[Keys]] = {
    "a key is replaced": [Keys((1,), 1, (1,)), Keys((2,), 1, (2, 1)), Keys((2,), 1, (2,))],
    "signatures that nobody asked for": [
        Keys((1,), 1, (3, 1, 4)),
        Keys((2,), 1, (3, 2, 1, 4)),
        Keys((2,), 1, (3, 2, 4)),
    ],
    "3 of 5, each time others": [
        Keys(FIVE, 3, (0, 2, 4)),
        Keys(FIVE, 3, (0, 4, 1)),
        Keys(FIVE, 3, (0, 1, 3)),
    ],
    "3 of 5, one replaced": [Keys(FIVE, 3, (0, 2, 4)), Keys(OTHER, 3, (0, 4, 1))],
    "3 of 5, one replaced, signed by old and new": [
        Keys(FIVE, 3, (0, 2, 4)),
        Keys(OTHER, 3, (0, 2, 4, 5)),
        Keys(OTHER, 3, (0, 4, 5)),
    ],
    "3 of 5, all replaced": [
        Keys(FIVE, 3, (0, 2, 4)),
        Keys((5, 6, 7, 8, 9), 3, (0, 2, 4, 5, 6, 7)),
        Keys((5, 6, 7, 8, 9), 3, (5, 6, 7)),
    ],
    "the threshold grows": [Keys((1, 2, 3), 1, (1,)), Keys((1, 2, 3), 2, (1, 2))],
    "the threshold shrinks": [Keys((1, 2, 3), 2, (1, 2)), Keys((1, 2, 3), 1, (1, 2)), Keys((1, 2, 3), 1, (1,))],
    "not signed by the old key": [Keys((1,), 1, (1,)), Keys((2,), 1, (2, 3, 4), fine=False)],
    "not signed by the new key": [Keys((1,), 1, (1,)), Keys((2,), 1, (1, 3, 4), fine=False)],
    "not by three of the new": [Keys(FIVE, 3, (0, 2, 4)), Keys(OTHER, 3, (0, 2, 4), fine=False)],
    "not by three of the old": [Keys(FIVE, 3, (0, 2, 4)), Keys(OTHER, 3, (0, 4, 5), fine=False)],
    "the new threshold is not met": [Keys((1, 2, 3), 1, (1,)), Keys((1, 2, 3), 2, (2,), fine=False)],
    "the old threshold is not met": [Keys((1, 2, 3), 2, (1, 2)), Keys((1, 2, 3), 1, (1,), fine=False)],
}


@pytest.mark.parametrize("versions", ROOTS.values(), ids=ROOTS)
def test_root_rotation(versions: list[Keys], client: Client) -> None:
    signers: list[Signer] = [CryptoSigner.generate_ed25519() for _ in range(10)]
    repository = client.repository
    repository.root.version = 0
    for version in versions:
        repository.set_keys("root", [signers[key] for key in version.keys], threshold=version.threshold)
        repository.signers["root"] = [signers[key] for key in version.signed]
        repository.publish("root")
    client.init(repository.trusted_root(1))
    fine = versions[-1].fine
    assert client.refresh() == (0 if fine else 1)
    assert client.stored("root") == repository.trusted_root(len(versions) if fine else len(versions) - 1)


OTHERS: dict[str, Keys] = {
    "a key is replaced": Keys((2,), 1, (2,)),
    "signatures that nobody asked for": Keys((1,), 1, (3, 1, 4)),
    "not signed by the new key": Keys((2,), 1, (1, 3, 4), fine=False),
    "not by three of those asked for": Keys(OTHER, 3, (0, 2, 4), fine=False),
    "one too few": Keys(OTHER, 3, (0, 4), fine=False),
    **{
        f"3 of 5: {signed}": Keys(FIVE, 3, signed) for signed in ((0, 2, 4), (0, 4, 1), (0, 1, 3), (1, 2, 3), (2, 3, 4))
    },
}


@pytest.mark.parametrize("keys", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_rotation_of_the_others(role: str, keys: Keys, client: Client) -> None:
    signers: list[Signer] = [CryptoSigner.generate_ed25519() for _ in range(10)]
    repository = client.repository
    client.init()
    repository.set_keys(role, [signers[key] for key in keys.keys], threshold=keys.threshold)
    repository.signers[role] = [signers[key] for key in keys.signed]
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == (0 if keys.fine else 1)
    if keys.fine:
        assert client.stored(role) == repository.files[repository.metadata_path(role, 2)]


def test_many_root_rotations(client: Client) -> None:
    client.init()
    client.repository.rotations(300)
    assert client.refresh() == 0
    assert client.version("root") == 301


# --- delegations


@dataclass(frozen=True)
class Edge:
    """A delegation."""

    parent: str
    child: str
    terminating: bool = False
    paths: tuple[str, ...] = ("*",)


PY = ("*.py",)
GRAPHS: dict[str, tuple[list[Edge], list[str]]] = {
    "one": ([Edge("targets", "A")], ["A"]),
    "two": ([Edge("targets", "A"), Edge("targets", "B")], ["A", "B"]),
    "two levels": ([Edge("targets", "A"), Edge("targets", "B"), Edge("B", "C")], ["A", "B", "C"]),
    "depth first": (
        [Edge("targets", "A"), Edge("targets", "B"), Edge("A", "C"), Edge("A", "D")],
        ["A", "C", "D", "B"],
    ),
    "depth first, three levels": (
        [Edge("targets", "A"), Edge("targets", "B"), Edge("A", "C"), Edge("C", "D")],
        ["A", "C", "D", "B"],
    ),
    "terminating": (
        [Edge("targets", "A"), Edge("targets", "B"), Edge("A", "C", terminating=True), Edge("A", "D")],
        ["A", "C"],
    ),
    "terminating with descendants": (
        [Edge("targets", "A"), Edge("targets", "B"), Edge("A", "C", terminating=True), Edge("C", "D")],
        ["A", "C", "D"],
    ),
    "another path": (
        [Edge("targets", "A", paths=PY), Edge("targets", "B"), Edge("A", "C")],
        ["B"],
    ),
    "another path below": (
        [Edge("targets", "A"), Edge("targets", "B"), Edge("A", "C", paths=PY), Edge("C", "D")],
        ["A", "B"],
    ),
    "a cycle": (
        [Edge("targets", "A"), Edge("targets", "B"), Edge("B", "C"), Edge("C", "D"), Edge("D", "B")],
        ["A", "B", "C", "D"],
    ),
    "two delegate to one": (
        [Edge("targets", "A"), Edge("targets", "B"), Edge("B", "C"), Edge("A", "C")],
        ["A", "C", "B"],
    ),
    "two delegate to one, different paths": (
        [Edge("targets", "A"), Edge("targets", "B"), Edge("B", "C"), Edge("A", "C", paths=PY)],
        ["A", "B", "C"],
    ),
}


def build(repository: Repository, edges: list[Edge]) -> None:
    for edge in edges:
        repository.delegate(edge.parent, edge.child, terminating=edge.terminating, paths=list(edge.paths))


def publish_all(repository: Repository) -> None:
    repository.publish(*(role for role in repository.roles if role not in TOP), bump=False)
    repository.release()


@pytest.mark.parametrize(("edges", "visited"), GRAPHS.values(), ids=GRAPHS)
def test_the_order_of_delegations(edges: list[Edge], visited: list[str], client: Client) -> None:
    build(client.repository, edges)
    publish_all(client.repository)
    client.init()
    assert client.download("missingpath") == 1
    assert client.asked()[4:] == [f"1.{role}.json" for role in visited]


TREE = [
    Edge("targets", "A", paths=("*.doc", "*.md")),
    Edge("targets", "B", paths=("releases/*/*",)),
    Edge("B", "C", paths=("releases/x/*",)),
    Edge("B", "D", paths=("releases/y/*.zip",)),
]


@pytest.mark.parametrize(
    ("path", "role", "visited"),
    [
        ("targetfile", "targets", []),
        ("README.md", "A", ["A"]),
        ("releases/x/x_v1", "C", ["B", "C"]),
        ("releases/y/y_v1.zip", "D", ["B", "D"]),
        ("releases/z/z_v1.zip", None, ["B"]),
    ],
)
def test_the_search_for_a_target(path: str, role: str | None, visited: list[str], client: Client) -> None:
    build(client.repository, TREE)
    client.repository.add(role or "D", path, b"content of " + path.encode())
    publish_all(client.repository)
    client.init()
    assert client.download(path) == (1 if role is None else 0)
    assert client.asked()[4:] == [f"1.{each}.json" for each in visited]
    assert client.downloaded() == ([] if role is None else [b"content of " + path.encode()])


def test_path_hash_prefixes(client: Client) -> None:
    repository = client.repository
    path = "bins/file"
    digest = hashlib.sha256(path.encode()).hexdigest()
    other = f"{int(digest[0], 16) ^ 1:x}"
    repository.delegate("targets", "bin-other", path_hash_prefixes=[other])
    repository.delegate("targets", "bin-right", path_hash_prefixes=[digest[:2]])
    repository.add("bin-right", path, b"binned")
    publish_all(repository)
    client.init()
    assert client.download(path) == 0
    assert client.asked()[4:] == ["1.bin-right.json"]
    assert client.downloaded() == [b"binned"]


def test_succinct_roles(client: Client) -> None:
    """Hash bins without a list: 2 bits, so four roles."""
    repository = client.repository
    path = "bins/file"
    signer = CryptoSigner.generate_ed25519()
    bins = SuccinctRoles([], 1, 2, "bin")
    repository.targets.delegations = Delegations({}, None, bins)
    repository.targets.add_key(signer.public_key)
    for role in bins.get_roles():
        repository.roles[role] = Metadata(Targets(expires=repository.targets.expires))
        repository.signers[role] = [signer]
    right = bins.get_role_for_target(path)
    repository.add(right, path, b"binned")
    publish_all(repository)
    client.init()
    assert client.download(path) == 0
    assert client.asked()[4:] == [f"1.{right}.json"]
    assert client.downloaded() == [b"binned"]


@pytest.mark.parametrize("role", ["?", "#", "/delegatedrole", "../delegatedrole", ".", "..", "a b", "ä"])
def test_unusual_role_names(role: str, client: Client) -> None:
    client.repository.delegate("targets", role)
    publish_all(client.repository)
    client.init()
    assert client.download("nonexistent target") == 1
    assert client.asked()[4:] == [f"1.{quote(role, '')}.json"]
    kept = [path for path in (client.directory / "metadata").iterdir() if path.name.endswith(".json")]
    assert len(kept) == 5
    assert sorted(path.name for path in client.directory.iterdir()) == ["initial_root.json", "metadata", "targets"]


def test_a_role_that_is_there_already_is_verified_for_each_delegator(client: Client) -> None:
    """Two roles delegate to one of the same name with other keys: what one trusts is not for the other to use."""
    repository = client.repository
    for parent in ("a", "b"):
        repository.delegate("targets", f"team-{parent}", paths=[f"{parent}/*"])
    repository.delegate("team-a", "shared", paths=["*/*"])
    trusted = repository.signers["shared"]
    repository.signers["shared"] = [CryptoSigner.generate_ed25519()]
    repository.delegate("team-b", "shared", paths=["*/*"])
    repository.signers["shared"] = trusted
    repository.add("shared", "a/x", b"trusted by a")
    repository.add("shared", "b/x", b"not by b")
    publish_all(repository)
    client.init()
    assert client.download("a/x", "b/x") == 1
    assert client.downloaded() == [b"trusted by a"]
    assert client.download("b/x", "a/x") == 1, "the first that fails ends it"
    assert client.download("a/x", "a/x") == 0
