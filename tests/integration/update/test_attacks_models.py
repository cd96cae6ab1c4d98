"""The attack table for models: what differs from firmware, against the whole service over real HTTP.

Version 1 is here. After each attack it still is, whole and current, nothing of the other is left, firmware is asked for
as before, and the device takes the honest version 2 once it is offered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner

from appliance.formats.model_release import ModelRelease, RunsOn, encode_model_release, latest_model_path, model_path
from tests.support.models import NAME, SIZE, ModelDevice, approve_model, made, model_device, noise, publish_model
from tests.support.plant import PRODUCT, Plant, plant
from tests.support.tuf_site import DAY, T0, Handler, Site, dripping, endless

ROLE = f"models-{NAME}"
TWO = made(2)
PATH = TWO.onnx.path
Attack = Callable[[Plant], object]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Plant]:
    with plant(tmp_path) as found:
        signers = [CryptoSigner.generate_ed25519() for _ in range(2)]
        found.vendor.repository.signers[ROLE] = list(signers)
        found.vendor.repository.delegate("targets", ROLE, threshold=2, paths=[f"models/{NAME}/*"], terminating=True)
        repository = found.vendor.repository
        repository.signers[ROLE] = list(signers)
        delegations = repository.targets.delegations
        assert delegations is not None and delegations.roles is not None
        for signer in signers:
            repository.targets.add_key(signer.public_key, ROLE)
        delegations.roles[ROLE].keyids = [signer.public_key.keyid for signer in signers]
        yield found


def honest(here: Plant) -> ModelRelease:
    """Version 2 is published and approved."""
    approve_model(here.change, publish_model(here.vendor, TWO))
    return TWO


def content(data: bytes) -> Attack:
    """The server has other bytes in the place of the model."""

    def attack(here: Plant) -> None:
        honest(here)
        here.vendor.repository.files[PATH] = data

    return attack


def answer(make: Callable[[Site], Callable[[Handler], None]], path: str = PATH) -> Attack:
    def attack(here: Plant) -> None:
        honest(here)
        here.sites[0].answers[path] = make(here.sites[0])

    return attack


def signed(release: ModelRelease, path: str | None = None) -> Attack:
    """The vendor signs it as `path`, and the site approves exactly that."""

    def attack(here: Plant) -> None:
        data = encode_model_release(release)
        place = path or model_path(NAME, release.version)
        here.vendor.repository.add(ROLE, place, data)
        here.vendor.repository.release(ROLE)
        here.vendor.repository.files[release.onnx.path] = noise(release.version, release.onnx.size, release.model)
        approve_model(here.change, release, target=place, version=int(place.split("/")[-1].removesuffix(".json")))

    return attack


def one_key(here: Plant) -> None:
    here.vendor.repository.signers[ROLE] = here.vendor.repository.signers[ROLE][:1]
    honest(here)


def revoked_key(here: Plant) -> None:
    """targets take a key of the role away and give it another; the old ones go on signing."""
    repository = here.vendor.repository
    delegations = repository.targets.delegations
    assert delegations is not None and delegations.roles is not None
    new = CryptoSigner.generate_ed25519()
    delegations.roles[ROLE].keyids = delegations.roles[ROLE].keyids[:1]
    repository.targets.add_key(new.public_key, ROLE)
    honest(here)


def firmware_key_signs(here: Plant) -> None:
    repository = here.vendor.repository
    repository.signers[ROLE] = repository.signers[here.vendor.role] * 2
    honest(here)


def rollback(here: Plant) -> None:
    """snapshot names the role's metadata of before."""
    honest(here)
    repository = here.vendor.repository
    repository.snapshot.meta[f"{ROLE}.json"].version = 1
    repository.publish("snapshot", "timestamp")


def mixed(here: Plant) -> None:
    repository = here.vendor.repository
    version = repository.roles[ROLE].signed.version
    old = repository.files[f"metadata/{version}.{ROLE}.json"]
    honest(here)
    repository.files[f"metadata/{version + 1}.{ROLE}.json"] = old


def expired(here: Plant) -> None:
    repository = here.vendor.repository
    repository.roles[ROLE].signed.expires = repository.roles[ROLE].signed.expires.replace(year=2026, month=7, day=2)
    honest(here)
    here.change.say(signed_at=T0 + 2 * DAY)


def outside(here: Plant) -> None:
    """The role of this model signs another one's path, and the other way round."""
    repository = here.vendor.repository
    release, data = made(2, name="doors"), encode_model_release(made(2, name="doors"))
    repository.add(ROLE, model_path("doors", 2), data)
    repository.add(ROLE, latest_model_path("doors"), data)
    repository.release(ROLE)
    repository.files[release.onnx.path] = noise(2, SIZE, "doors")
    approve_model(here.change, release)


def half(handler: Handler) -> None:
    handler.say(200, noise(2)[: SIZE // 2], Content_Length=str(SIZE))
    handler.hang_up()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Row:
    """said: the end of what the audit log says last."""

    name: str
    attack: Attack
    said: str


OTHER = noise(9)
SHORT, LONG = noise(2)[:-1], noise(2) + b"x"
ROWS = [
    Row(
        "arbitrary package: other bytes of the same length",
        content(OTHER),
        f"version 2 of model {NAME}: sha256 {sha(OTHER)} came, {TWO.onnx.sha256} is signed.",
    ),
    Row(
        "wrong size: shorter",
        content(SHORT),
        f"bytes {SIZE - 1}-{SIZE - 1}/{SIZE} were asked for, the answer has 'bytes {SIZE - 1}-{SIZE - 2}/{SIZE - 1}'.",
    ),
    Row(
        "wrong size: longer",
        content(LONG),
        f"{PATH}: {SIZE + 1} bytes are announced, at most {SIZE} are allowed.",
    ),
    Row("it ends early, each time", answer(lambda _: half), "the connection was lost."),
    Row(
        "endless data, announced",
        answer(lambda site: endless(site, announce=1 << 40)),
        f"{PATH}: {1 << 40} bytes are announced, at most {SIZE} are allowed.",
    ),
    Row(
        "endless data, in chunks",
        answer(endless),
        f"{PATH}: more than the {SIZE} bytes that are allowed.",
    ),
    Row("nothing there", lambda here: (honest(here), here.vendor.repository.files.pop(PATH)), "no such file (404)."),
    Row(
        "a redirect",
        answer(lambda _: lambda handler: handler.say(302, b"", Location="/content/x")),
        "the server sends us elsewhere (302); redirects are not followed.",
    ),
    Row(
        "key compromise below the threshold",
        one_key,
        f"signatures: vendor repository: {ROLE} 3 has 1 of the 2 signatures that targets 5 demands.",
    ),
    Row(
        "revoked key",
        revoked_key,
        f"signatures: vendor repository: {ROLE} 3 has 1 of the 2 signatures that targets 5 demands.",
    ),
    Row(
        "the firmware's key",
        firmware_key_signs,
        f"signatures: vendor repository: {ROLE} 3 has 0 of the 2 signatures that targets 5 demands.",
    ),
    Row(
        "rollback of the model's metadata",
        rollback,
        f"rollback: vendor repository: snapshot 6 names {ROLE} 1, and {ROLE} 2 was accepted before.",
    ),
    Row(
        "mix-and-match: yesterday's metadata under today's snapshot",
        mixed,
        f"mismatch: vendor repository: {ROLE} 2 was sent, snapshot 5 names {ROLE} 3.",
    ),
    Row(
        "lapsed, by the site's own time",
        expired,
        f"expired: vendor repository: {ROLE} 3 expired on 2026-07-02 10:00:00 UTC, and signatures prove that it is "
        "2026-07-03 10:00:00 UTC or later.",
    ),
    Row(
        "a manifest of more than its bytes",
        answer(lambda site: endless(site), f"targets/models/{NAME}/{sha(encode_model_release(TWO))}.2.json"),
        f"more than the {len(encode_model_release(TWO))} bytes that are allowed.",
    ),
    Row(
        "another product's model",
        signed(made(2, products=(RunsOn(product="lathe"),))),
        f"models/{NAME}/2.json is for product lathe, this is {PRODUCT}.",
    ),
    Row(
        "another model under this one's name",
        signed(made(2, name="doors"), f"models/{NAME}/2.json"),
        f"models/{NAME}/2.json is model doors, not {NAME}.",
    ),
    Row(
        "an older version under a newer path",
        signed(made(1), f"models/{NAME}/2.json"),
        f"models/{NAME}/2.json is version 1, not 2.",
    ),
    Row(
        "a replayed approval",
        lambda here: (
            honest(here),
            here.change.say(mode="hold"),
            model_device(here).update(),
            setattr(here.change, "policy", msgspec.structs.replace(here.change.policy, sequence=2, mode="approve")),
            here.change.say(),
        ),
        "replayed-policy: policy 3 is older than policy 4, which was seen here.",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_attack_is_refused(row: Row, here: Plant) -> None:
    device = model_device(here)
    approve_model(here.change, publish_model(here.vendor, made(1)))
    device.update()
    before = state(device)
    backup = dict(here.vendor.repository.signers)
    row.attack(here)
    device.update()
    assert here.device.recorder.last.endswith(row.said)
    assert device.holds(1)
    assert {name: data for name, data in state(device).items() if name in before} == before
    assert not any(name.endswith(".onnx") for name in set(state(device)) - set(before))
    assert b"" not in state(device).values()

    here.vendor.repository.signers.update(backup)
    here.sites[0].answers.clear()
    three = made(3)
    delegations = here.vendor.repository.targets.delegations
    assert delegations is not None and delegations.roles is not None
    delegations.roles[ROLE].keyids = [signer.public_key.keyid for signer in backup[ROLE]]
    here.vendor.repository.renew(T0 + 365 * DAY)
    here.change.policy = msgspec.structs.replace(here.change.policy, sequence=20)
    here.change.say(mode="approve", approvals=())
    approve_model(here.change, publish_model(here.vendor, three))
    device.update()
    assert device.holds(3), "the attack must not outlive itself"
    assert len(device.tree()) == 5, "nothing is left of it"


def test_a_role_that_signs_for_another_model_does_not_exist_for_a_device(here: Plant) -> None:
    device: ModelDevice = model_device(here, names=("doors",))
    outside(here)
    device.update()
    assert device.said[-1].endswith("not-at-vendor: the vendor's repository has no models/doors/2.json.")
    assert device.tree("doors") == []


def test_slow_retrieval_ends(here: Plant) -> None:
    device = model_device(here)
    answer(lambda site: dripping(site, noise(2), every_s=30))(here)
    device.update()
    assert device.said[-1].endswith("no byte for 5 s.")


def state(device: ModelDevice) -> dict[str, bytes]:
    directory = device.base / NAME
    return {path.name: path.read_bytes() for path in directory.iterdir()}
