"""Models beside the firmware, on one device, against real repositories on real HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from appliance.formats.approval import Window
from appliance.formats.model_release import RunsOn
from appliance.formats.release import Content
from appliance.update.client import TrustedRepository
from appliance.update.ranges import ByteRange
from appliance.update.rounds import Origin
from appliance.update.transport import NotThereError
from tests.support.models import NAME, SIZE, ModelDevice, approve_model, made, model_device, noise, publish_model
from tests.support.plant import AFTER_FAILURE, AFTER_SUCCESS, CONFIG, PRODUCT, Plant, plant
from tests.support.tuf_site import DAY, T0


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Plant]:
    with plant(tmp_path) as found:
        yield found


@pytest.fixture
def device(here: Plant) -> ModelDevice:
    return model_device(here)


def test_an_approved_model_is_fetched_without_a_reboot_and_the_log_tells_it(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    service = device.update()
    assert device.holds(1)
    assert not service.firmware.wants_reboot
    assert device.kinds == ["model-checked", "model-decided", "model-freshness-unproven", "model-stored"]
    assert device.said[-1] == (
        f"Version 1 of model {NAME} ({made(1).onnx.sha256}) is here: {SIZE} bytes fetched, in 0 s."
    )
    events = [event for event in here.device.recorder.events if event.kind.startswith("model-")][1:]
    assert len({event.fields["transaction"] for event in events}) == 1
    assert service.later() == AFTER_SUCCESS
    assert device.said[-1] == f"Model {NAME} was looked for at network: stored: version 1 of model {NAME} is here."
    assert device.tree() == ["1.json", "1.onnx", "current.json"]


def test_current_and_previous_are_kept_and_older_ones_go(here: Plant, device: ModelDevice) -> None:
    for version in (1, 2, 3):
        approve_model(here.change, publish_model(here.vendor, made(version)))
        device.update()
        assert device.holds(version)
    assert device.tree() == ["2.json", "2.onnx", "3.json", "3.onnx", "current.json"]
    current = device.store.current(NAME)
    assert current is not None and current.previous is not None
    assert (current.previous.version, current.current.policy_sequence) == (2, 4)


def test_following_the_vendor_needs_no_approval(here: Plant, device: ModelDevice) -> None:
    here.change.say(mode="follow-vendor")
    publish_model(here.vendor, made(7))
    device.update()
    assert device.holds(7)


def test_what_vendor_and_site_stop_naming_stays(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    device.update()
    before = {path.name: path.read_bytes() for path in (device.base / NAME).iterdir()}
    here.change.say(approvals=(), mode="hold")
    device.update()
    here.change.say(mode="approve")
    here.vendor.repository.roles[f"models-{NAME}"].signed.targets.clear()
    here.vendor.repository.release(f"models-{NAME}")
    device.update()
    here.vendor.repository.renew(T0 - 30 * DAY)  # everything lapsed
    here.vendor.repository.release()
    device.update()
    assert {path.name: path.read_bytes() for path in (device.base / NAME).iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "facts", "said"),
    [
        ({"site": "plant-9"}, {}, "the policy is of site plant-9, this device belongs to plant-4."),
        ({}, {"name": "press-1"}, None),
        ({}, {"name": "press-2"}, f"version 1 of model {NAME} is for canary; this device is in all."),
        ({"mode": "hold"}, {"name": "press-1"}, f"the site holds {PRODUCT} (policy 3)."),
        (
            {},
            {"name": "press-1", "development": False},
            f"models/{NAME}/1.json was published with development keys, this device runs a release.",
        ),
    ],
    ids=["other-site", "canary", "other-ring", "hold", "development"],
)
def test_whom_an_approval_is_for(
    here: Plant, device: ModelDevice, changes: dict[str, object], facts: dict[str, object], said: str | None
) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)), rings=("canary",))
    if changes:
        here.change.say(**changes)
    here.device.device = facts
    device.update()
    assert device.holds(1) == (said is None)
    if said is not None:
        assert device.said[-1].endswith(said)
        assert device.tree() == []


def test_a_model_for_another_product_is_refused(here: Plant, device: ModelDevice) -> None:
    release = publish_model(here.vendor, made(1, products=(RunsOn(product="lathe"),)))
    approve_model(here.change, release)
    device.update()
    assert device.said[-1].endswith(f"models/{NAME}/1.json is for product lathe, this is {PRODUCT}.")
    assert device.tree() == []


def test_another_products_approval_is_not_for_this_one(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    here.device.device = {"product": "lathe"}
    device.update()
    assert device.said[-1].endswith("no-policy: the site has not said yet what may be installed.")


def test_a_model_that_needs_newer_firmware_waits_for_it(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1, oldest=2)))
    device.update()
    assert device.said[-1].endswith(f"version 1 of model {NAME} needs version 2 of {PRODUCT} first, 1 is running.")
    here.change.approve(here.vendor.publish(2))
    assert device.update().firmware.wants_reboot
    here.device.boot(healthy=False)
    device.update()
    assert device.tree() == [], "a version on trial may be left again"
    here.device.boot()
    device.update()
    assert device.holds(1)


def test_the_site_alone_is_not_enough(here: Plant, device: ModelDevice) -> None:
    release = publish_model(here.vendor, made(1))
    approve_model(here.change, msgspec.structs.replace(release, built=0))
    device.update()
    assert "differs-from-approval: models/labels/1.json: the site approved sha256" in device.said[-1]
    assert device.tree() == []


def test_a_replayed_old_approval_is_refused(here: Plant, device: ModelDevice) -> None:
    old = approve_model(here.change, publish_model(here.vendor, made(1)))
    here.change.say(mode="hold")
    device.update()
    here.change.policy = msgspec.structs.replace(old, sequence=old.sequence - 1)
    here.change.say(mode="approve")  # sequence 2 once more, in newer metadata
    device.update()
    assert device.said[-1].endswith("policy 2 is older than policy 3, which was seen here.")
    assert device.tree() == []


def test_a_lower_version_never_comes_back(here: Plant, device: ModelDevice) -> None:
    one = publish_model(here.vendor, made(1))
    approve_model(here.change, publish_model(here.vendor, made(2)))
    device.update()
    here.change.say(approvals=())
    approve_model(here.change, one)
    device.update()
    assert device.holds(2)
    assert device.said[-1].endswith(f"not-newer: version 1 of model {NAME} is below 2, which is here.")


def test_the_same_version_with_other_bytes_is_refused(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    device.update()
    approve_model(here.change, publish_model(here.vendor, made(1, built=0)))
    device.update()
    assert device.said[-1].endswith(f"not-newer: version 1 of model {NAME} is here already, with other bytes.")


def test_a_models_time_is_not_believed(here: Plant, device: ModelDevice) -> None:
    """Whoever has a model's keys cannot make the rest look expired."""
    approve_model(here.change, publish_model(here.vendor, made(1)))
    device.update()
    assert here.device.state.t_low == T0


def test_fetching_pauses_when_the_window_closes(here: Plant, device: ModelDevice) -> None:
    here.change.say(clock="machine", time_unknown="wait")
    release = publish_model(here.vendor, made(1))
    approve_model(here.change, release, windows=(Window(start_min=600, minutes=60),))
    here.device.wall = T0 + 30 * 60  # 10:30 UTC
    pieces = iter(range(1000))

    def closes() -> bool:
        if next(pieces) == 4:
            here.device.wall = T0 + 90 * 60
        return False

    device.hand.wanted = closes
    service = device.update()
    assert device.said[-1] == f"Work on version 1 of model {NAME} stopped: the maintenance window is closed."
    asked = len(here.sites[0].asked)
    service.later()
    assert len([path for path in here.sites[0].asked[asked:] if "content" in path]) == 0
    here.device.wall = T0 + DAY
    service.later()
    assert device.holds(1)
    ranges = [found for path, found in zip(here.sites[0].asked, here.sites[0].ranges, strict=True) if "content" in path]
    assert ranges[0] is None and ranges[1] is not None and ranges[1].startswith("bytes=")
    fetched = here.device.recorder.events[-2].fields["fetched"]
    assert isinstance(fetched, int) and 0 < fetched < SIZE


def test_what_was_decided_is_finished_without_asking_again(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    seen = iter(range(1000))
    device.hand.wanted = lambda: next(seen) == 3
    device.update()
    assert "1.part" in device.tree()
    here.change.say(mode="hold")  # too late
    device.hand.wanted = lambda: False
    device.update()
    assert device.holds(1)
    assert device.kinds[-3:] == ["model-resumed", "model-stored", "model-checked"]


def test_a_slow_model_is_left_when_firmware_is_due_and_goes_on_afterwards(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    device.clock.each = AFTER_SUCCESS / 8  # each look at the clock takes that long
    service = device.on()
    assert service.turns.round() == 0.0
    assert "1.part" in device.tree()
    here.change.approve(here.vendor.publish(2))
    assert service.turns.round() == 0.0
    assert here.device.state.trial is not None, "the firmware came first"
    service.run()
    assert service.firmware.wants_reboot
    for _ in range(20):
        service.turns.round()
    assert device.holds(1)


def test_a_firmware_that_cannot_be_had_does_not_hold_models_back(here: Plant, device: ModelDevice) -> None:
    here.change.approve(here.vendor.publish(2))
    approve_model(here.change, publish_model(here.vendor, made(1)))
    for path in [path for path in here.vendor.repository.files if path.startswith("content/")]:
        if path != made(1).onnx.path:
            del here.vendor.repository.files[path]
    service = device.update()
    assert here.device.state.trial is not None
    assert not service.firmware.wants_reboot
    assert device.holds(1)


def test_firmware_metadata_that_is_refused_does_not_hold_models_back(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    here.change.approve(here.vendor.publish(2))
    version = here.vendor.repository.roles[here.vendor.role].signed.version
    here.vendor.repository.files[f"metadata/{version}.{here.vendor.role}.json"] = b"{}"
    assert device.update().firmware.wants_reboot is False
    assert device.holds(1)


def test_a_model_that_cannot_be_had_does_not_hold_firmware_back(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    del here.vendor.repository.files[made(1).onnx.path]
    device.update()
    assert device.kinds[-1] == "model-interrupted"
    here.change.approve(here.vendor.publish(2))
    assert device.update().firmware.wants_reboot


def test_one_model_does_not_hold_another_back(here: Plant) -> None:
    device = model_device(here, names=("bad", NAME))
    for name in ("bad", NAME):
        approve_model(here.change, publish_model(here.vendor, made(1, name=name)))
    version = here.vendor.repository.roles["models-bad"].signed.version
    here.vendor.repository.files[f"metadata/{version}.models-bad.json"] = b"{}"
    device.update()
    assert device.holds(1)
    assert device.tree("bad") == []


def test_a_newer_version_takes_the_place_of_one_that_cannot_be_had(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    del here.vendor.repository.files[made(1).onnx.path]
    service = device.update()
    approve_model(here.change, publish_model(here.vendor, made(2)))
    service.later()
    assert device.holds(2)
    assert device.tree() == ["2.json", "2.onnx", "current.json"]
    assert "model-dropped" in device.kinds


def test_one_that_cannot_be_had_and_is_revoked_is_dropped(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    del here.vendor.repository.files[made(1).onnx.path]
    service = device.update()
    here.change.say(approvals=())
    service.later()
    assert device.tree() == []
    assert device.said[-1].startswith(f"Version 1 of model {NAME} is not wanted any more: the site approves no version")


def test_a_model_that_does_not_fit_is_refused_and_nothing_is_touched(here: Plant) -> None:
    device = model_device(here, budget=(256 << 10) + 3 * SIZE)
    for version in (1, 2):
        approve_model(here.change, publish_model(here.vendor, made(version)))
        device.update()
    approve_model(here.change, publish_model(here.vendor, made(3)))
    device.update()
    assert device.holds(3)
    assert device.tree() == ["2.json", "2.onnx", "3.json", "3.onnx", "current.json"], "1 made room"
    before = device.tree()
    approve_model(here.change, publish_model(here.vendor, made(4, size=2 * SIZE)))
    device.update()
    assert device.tree() == before
    assert f"no-room: version 4 of model {NAME} needs" in device.said[-1]


def test_a_full_disk_is_refused_and_nothing_is_touched(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    device.free = (16 << 20) + (256 << 10) + SIZE
    device.update()
    assert device.said[-1].endswith(f"{SIZE} are left for it.")
    assert device.tree() == []


def test_a_model_that_the_profile_no_longer_names_goes(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    device.update()
    other = model_device(here, names=("other",))
    other.update()
    assert other.tree() == []


def test_a_manifest_of_a_later_form_does_not_hide_the_others(here: Plant, device: ModelDevice) -> None:
    release = publish_model(here.vendor, made(1))
    approve_model(here.change, release)
    role = f"models-{NAME}"
    here.vendor.repository.add(role, f"models/{NAME}/9.json", b'{"schema":2}\n')
    here.vendor.repository.release(role)
    approve_model(here.change, msgspec.structs.replace(release, version=9))
    device.update()
    assert device.holds(1)
    assert "unreadable" in device.said[0]


def test_a_server_that_is_gone_is_asked_again_later(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    here.sites[1].shutdown()
    here.sites[1].server_close()
    service = device.on()
    assert service.run() == AFTER_FAILURE
    assert device.kinds == [], "the firmware has told it"
    assert service.later(AFTER_FAILURE) == AFTER_FAILURE


def test_a_damaged_version_is_left_for_the_one_before_it_and_fetched_again(here: Plant, device: ModelDevice) -> None:
    for version in (1, 2):
        approve_model(here.change, publish_model(here.vendor, made(version)))
        device.update()
    (device.base / NAME / "2.onnx").write_bytes(noise(3))
    service = device.on()
    service.models.round(service.firmware.rounds.heard, until=device.clock.now + 10)
    assert device.holds(1)
    assert here.device.recorder.last.endswith(f"version 2 of model {NAME} is damaged, or gone.")
    service.later()
    assert device.holds(2)


@pytest.mark.parametrize("file", ["current.json", "pending.json"])
def test_a_damaged_state_is_put_aside_and_told(here: Plant, device: ModelDevice, file: str) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    device.update()
    (device.base / NAME / file).write_bytes(b"{}")
    device.update()
    assert device.holds(1)
    assert "update-state-replaced" in here.device.recorder.kinds
    assert f"{file}.broken" in device.tree()


def test_a_medium_that_comes_while_a_model_is_fetched_is_asked_at_once(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    looks = iter(range(1000))
    device.hand.wanted = lambda: next(looks) > 3
    service = device.on()
    assert service.turns.round() == 0.0
    assert "1.part" in device.tree()
    device.hand.wanted = lambda: False
    service.run()
    assert device.holds(1)
    assert device.hand.begun > 1


class Medium:
    """A file source that lacks some files, as a medium does."""

    def __init__(self, files: dict[str, bytes], lacks: Callable[[str], bool]) -> None:
        self.files = {path: data for path, data in files.items() if not lacks(path)}

    def get(self, path: str, *, at_most: int) -> bytes:
        if path not in self.files:
            raise NotThereError(f"medium: {path}: not there")
        return self.files[path][: at_most + 1]

    def read(self, content: Content, ranges: Sequence[ByteRange]) -> Iterator[bytes]:
        data = self.get(content.path, at_most=content.size)
        return (data[part.offset : part.offset + part.length] for part in ranges)


def with_medium(here: Plant, lacks: Callable[[str], bool]) -> Callable[[], Sequence[Origin]]:
    """A medium with what vendor and site have now, and the network."""
    network = here.device.origins
    media = [Medium(repository.files, lacks) for repository in (here.vendor.repository, here.change.repository)]

    def origins() -> Sequence[Origin]:
        trusted = [
            TrustedRepository(
                here.device.directory / name, repository.trusted_root(), medium, CONFIG, name=f"{name} repository"
            )
            for name, repository, medium in zip(
                ("vendor", "site"), (here.vendor.repository, here.change.repository), media, strict=True
            )
        ]
        return [Origin("medium", vendor=trusted[0], site=trusted[1], content=media[0]), *network()]

    return origins


@pytest.mark.parametrize(
    ("lacks", "asks_network"),
    [
        (lambda path: False, 0),
        (lambda path: path.startswith("content/"), 1),
        (lambda path: "models" in path or path.startswith("content/"), 1),
    ],
    ids=["all of it", "without content", "without models"],
)
def test_what_a_medium_lacks_comes_from_the_network(
    here: Plant, device: ModelDevice, lacks: Callable[[str], bool], asks_network: int
) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    here.device.origins = with_medium(here, lacks)  # type: ignore[method-assign]
    device.update()
    assert device.holds(1)
    assert len([path for path in here.sites[0].asked if path.startswith("content/")]) == asks_network


def test_a_medium_that_the_network_overtook_raises_no_alarm(here: Plant) -> None:
    """The second model is on the medium, the first is not: the network is asked for it, and knows a newer policy."""
    device = model_device(here, names=("first", NAME))
    approve_model(here.change, publish_model(here.vendor, made(1)))
    approve_model(here.change, publish_model(here.vendor, made(1, name="first")))
    here.device.origins = with_medium(here, lambda path: "first" in path)  # type: ignore[method-assign]
    here.change.say()
    device.update()
    assert device.holds(1)
    assert device.holds(1, "first")
    assert not any("replayed-policy" in said for said in device.said)


def test_a_medium_with_another_file_is_thrown_away_and_the_network_asked(here: Plant, device: ModelDevice) -> None:
    approve_model(here.change, publish_model(here.vendor, made(1)))
    honest = here.vendor.repository.files[made(1).onnx.path]
    here.vendor.repository.files[made(1).onnx.path] = noise(9)
    here.device.origins = with_medium(here, lambda _: False)  # type: ignore[method-assign]
    here.vendor.repository.files[made(1).onnx.path] = honest
    device.update()
    assert device.holds(1)
