"""The whole life of an update on one device, against real repositories on real HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from appliance.formats.approval import Window
from appliance.formats.release import Content, encode_release
from appliance.update.ranges import ByteRange
from tests.support.delta import holds
from tests.support.plant import AFTER_FAILURE, AFTER_SUCCESS, PRODUCT, Plant, plant
from tests.support.tuf_site import DAY, T0


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Plant]:
    with plant(tmp_path) as made:
        yield made


def test_an_approved_version_is_staged_tried_confirmed_and_the_log_tells_it(here: Plant) -> None:
    here.change.approve(here.vendor.publish(2))
    service = here.device.update()
    assert service.wants_reboot
    assert holds(here.device.slots["b"], here.vendor.releases[2])
    assert here.device.names == ["edgeseal_1.efi", "edgeseal_2+3-0.efi"]
    here.device.boot()
    assert here.device.version == 2
    assert here.device.update().run() == AFTER_SUCCESS
    assert here.device.recorder.kinds == [
        "update-checked",
        "update-decided",
        "freshness-unproven",
        "update-staged",
        "update-activated",
        "update-confirmed",
        "update-checked",
    ]
    assert here.device.recorder.last.startswith("Updates were looked for at network: running: version 2 is running")
    assert here.device.state.trial is None
    transactions = {event.fields.get("transaction") for event in here.device.recorder.events[1:-1]}
    assert len(transactions) == 1


def test_a_version_that_is_not_healthy_falls_back_and_is_not_tried_again(here: Plant) -> None:
    release = here.vendor.publish(2)
    here.change.approve(release)
    here.device.update()
    for _ in range(3):
        here.device.boot(healthy=False)
        assert here.device.version == 2
        here.device.update()
    here.device.boot()
    assert here.device.version == 1
    assert here.device.update().run() == AFTER_SUCCESS
    assert "update-fell-back" in here.device.recorder.kinds
    assert "fell back here under policy 2" in here.device.recorder.last
    here.device.update()
    assert here.device.recorder.kinds.count("update-decided") == 1

    here.change.approve(release)  # people looked at it, and want it once more
    assert here.device.update().wants_reboot


def test_three_power_cycles_of_a_confirmed_version_never_move_it(here: Plant) -> None:
    here.change.approve(here.vendor.publish(2))
    here.device.update()
    here.device.boot()
    here.device.update()
    for _ in range(3):
        here.device.boot(healthy=False)
        assert here.device.version == 2


def test_the_plant_is_told_how_it_ended(here: Plant) -> None:
    here.device.uplink.reachable = False
    here.change.approve(here.vendor.publish(2))
    here.device.update()
    here.device.boot()
    here.device.update()
    here.change.approve(here.vendor.publish(3))
    here.device.update()
    for _ in range(4):
        here.device.boot(healthy=False)
    here.device.update()
    assert here.device.uplink.reports == []
    here.device.uplink.reachable = True
    for _ in range(2):
        here.device.update()
    told = [(report.version, report.running, report.outcome, report.reason) for report in here.device.uplink.reports]
    assert told == [
        (2, 2, "confirmed", "it passed its health gate"),
        (3, 2, "fell-back", "version 3 was booted 3 times and never judged good"),
    ]


@pytest.mark.parametrize(
    ("healthy", "restored"), [(True, "edgeseal_2.efi"), (False, "edgeseal_2+3-0.efi")], ids=["confirmed", "on-trial"]
)
def test_a_lost_boot_entry_is_written_again_and_confirms_nothing(here: Plant, healthy: bool, restored: str) -> None:
    here.change.approve(here.vendor.publish(2))
    here.device.update()
    here.device.boot(healthy=healthy)
    if healthy:
        here.device.update()
    (lost,) = (name for name in here.device.names if "_2" in name)
    (here.device.entries / lost).unlink()
    here.device.on().rounds.round()
    assert restored in here.device.names
    assert "boot-entry-restored" in here.device.recorder.kinds


def test_a_bad_medium_does_not_shut_out_the_network(here: Plant) -> None:
    here.change.approve(here.vendor.publish(2))
    service = here.device.on()
    service.rounds.round()  # decided

    class Liar:
        """Gives as many bytes as are asked for, of nothing."""

        def read(self, _content: Content, ranges: Sequence[ByteRange]) -> Iterator[bytes]:
            return (bytes(item.length) for item in ranges)

    (online,) = here.device.origins()
    service.worker.go_on([Liar(), online.content])
    assert service.wants_reboot
    assert holds(here.device.slots["b"], here.vendor.releases[2])


def test_a_later_version_takes_the_place_of_the_oldest(here: Plant) -> None:
    for version in (2, 3, 4):
        here.change.approve(here.vendor.publish(version))
        here.device.update()
        here.device.boot()
        here.device.update()
        assert here.device.version == version
    assert here.device.names == ["edgeseal_3.efi", "edgeseal_4.efi"]


def test_staging_that_was_stopped_goes_on_where_it_was_and_does_not_ask_again(here: Plant) -> None:
    here.change.approve(here.vendor.publish(2))
    asked = iter(range(1000))
    here.device.should_stop = lambda: next(asked) == 4
    here.device.update()
    assert "update-interrupted" in here.device.recorder.kinds
    assert here.device.recorder.kinds[:2] == ["update-checked", "update-decided"]
    here.change.say(mode="hold")  # too late: the decision is made
    here.device.should_stop = lambda: False
    assert here.device.update().wants_reboot
    assert here.device.recorder.kinds[-3:] == ["update-resumed", "update-staged", "update-activated"]


def test_a_raised_security_epoch_shuts_out_the_old_version(here: Plant) -> None:
    here.change.approve(here.vendor.publish(2, security_epoch=5))
    here.device.update()
    here.device.boot()
    here.device.update()
    assert here.device.state.security_epoch == 5
    assert here.device.names == ["edgeseal_2.efi"], "version 1 cannot even be fallen back to"
    here.change.approve(here.vendor.publish(3, security_epoch=4))
    here.device.update()
    assert here.device.recorder.last.endswith("version 3 has security epoch 4, below 5.")


def test_the_vendor_alone_is_not_enough(here: Plant) -> None:
    here.vendor.publish(2)
    here.change.say()
    assert here.device.update().run() == AFTER_SUCCESS
    assert here.device.recorder.last.endswith(
        f"nothing-approved: the site approves no version of {PRODUCT} (policy 2)."
    )


def test_the_site_alone_is_not_enough(here: Plant) -> None:
    release = here.vendor.publish(2)
    here.change.approve(msgspec.structs.replace(release, oldest=2))  # other bytes than the vendor's
    here.device.update()
    assert "firmware/press/2.json: the site approved sha256" in here.device.recorder.last
    assert here.device.names == ["edgeseal_1.efi"]


def test_following_the_vendor_needs_no_approval(here: Plant) -> None:
    here.change.say(mode="follow-vendor")
    here.vendor.publish(2)
    assert here.device.update().wants_reboot


@pytest.mark.parametrize(
    ("changes", "device", "said"),
    [
        ({"site": "plant-9"}, {}, "the policy is of site plant-9, this device belongs to plant-4."),
        ({}, {"name": "press-1", "site": "plant-4"}, None),
        ({}, {"name": "press-2"}, "version 2 is for canary; this device is in all."),
        ({"mode": "hold"}, {"name": "press-1"}, "the site holds press (policy 3)."),
        ({}, {"name": "press-1", "development": False}, "firmware/press/2.json is a development build"),
        ({}, {"name": "press-1", "architecture": "arm64"}, "firmware/press/2.json is for x86_64, this is arm64."),
        ({}, {"name": "press-1", "profile": "gateway"}, "firmware/press/2.json is for profile press"),
    ],
    ids=["other-site", "canary", "other-ring", "hold", "development", "other-architecture", "other-profile"],
)
def test_whom_an_approval_is_for(
    here: Plant, changes: dict[str, object], device: dict[str, object], said: str | None
) -> None:
    here.change.approve(here.vendor.publish(2), rings=("canary",))
    if changes:
        here.change.say(**changes)
    here.device.device = device
    service = here.device.update()
    assert service.wants_reboot == (said is None)
    if said is not None:
        assert said in here.device.recorder.last
        assert here.device.state.trial is None


def test_an_approval_for_another_product_is_not_for_this_one(here: Plant) -> None:
    here.change.approve(here.vendor.publish(2))
    here.device.device = {"product": "lathe"}
    here.device.update()
    assert here.device.recorder.last.endswith("the site has not said yet what may be installed.")


def test_a_replayed_old_policy_is_refused(here: Plant) -> None:
    """Signed anew by nobody: a site's server that is restored from a backup shows what its devices saw long ago."""
    old = here.change.approve(here.vendor.publish(2))
    here.change.say(mode="hold")
    here.device.update()
    here.change.policy = msgspec.structs.replace(old, sequence=old.sequence - 1)
    here.change.say(mode="approve")  # sequence 2 once more, in newer metadata
    here.device.update()
    assert here.device.recorder.last.endswith("policy 2 is older than policy 3, which was seen here.")


def test_metadata_that_lapsed_before_the_sites_own_time_is_refused(here: Plant) -> None:
    here.vendor.repository.renew(T0 + 5 * DAY)
    here.change.approve(here.vendor.publish(2), not_after=0)
    here.change.say(signed_at=T0 + 6 * DAY)
    assert here.device.update().run() == AFTER_FAILURE
    assert "timestamp" in here.device.recorder.last
    assert "expired" in here.device.recorder.last
    assert here.device.names == ["edgeseal_1.efi"]


@pytest.mark.parametrize("wall", [0, 4_102_444_800, T0 - 400 * DAY], ids=["1970", "2100", "behind"])
def test_the_machines_clock_decides_nothing(here: Plant, wall: int) -> None:
    here.device.wall = wall
    here.change.approve(here.vendor.publish(2))
    assert here.device.update().wants_reboot
    assert "freshness-unproven" in here.device.recorder.kinds


def test_a_device_without_a_clock_waits_for_its_window_when_the_site_says_so(here: Plant) -> None:
    window = (Window(start_min=60, minutes=60),)
    here.change.approve(here.vendor.publish(2), windows=window)
    here.change.say(time_unknown="wait")
    here.device.update()
    assert here.device.recorder.last.endswith("and this device does not know the time.")


def test_staging_pauses_when_the_window_closes(here: Plant) -> None:
    here.change.say(clock="machine", time_unknown="wait")
    here.change.approve(here.vendor.publish(2), windows=(Window(start_min=600, minutes=60),))
    here.device.wall = T0 + 30 * 60  # 10:30 UTC
    service = here.device.on()
    service.rounds.round()
    for unusable in (T0 + 90 * 60, 0, 4_102_444_800, None):  # 11:30, 1970, 2100, none
        here.device.wall = unusable
        assert not service.rounds.may_work()
        service.run()
        assert not service.wants_reboot
    here.device.wall = T0 + DAY
    assert here.device.update().wants_reboot


@pytest.mark.parametrize(("healthy", "kind"), [(True, "update-confirmed"), (False, "update-fell-back")])
def test_an_end_does_not_wait_for_a_window(here: Plant, healthy: bool, kind: str) -> None:
    here.change.say(clock="machine", time_unknown="wait")
    here.change.approve(here.vendor.publish(2), windows=(Window(start_min=600, minutes=60),))
    here.device.wall = T0 + 30 * 60
    assert here.device.update().wants_reboot
    here.device.wall = T0 + 90 * 60  # it is over when the trial is
    for _ in range(1 if healthy else 4):
        here.device.boot(healthy=healthy)
    here.device.update()
    assert kind in here.device.recorder.kinds


def test_a_manifest_of_a_later_form_does_not_hide_the_others(here: Plant) -> None:
    release = here.vendor.publish(2)
    here.change.approve(release)
    later = encode_release(release).replace(b'"schema":1', b'"schema":2').replace(b'"version":2', b'"version":9')
    here.vendor.repository.add(here.vendor.role, f"firmware/{PRODUCT}/9.json", later)
    here.vendor.repository.release(here.vendor.role)
    here.change.approve(msgspec.structs.replace(release, version=9))
    assert here.device.update().wants_reboot


def test_a_device_whose_state_is_damaged_says_so(here: Plant) -> None:
    here.device.update()
    (here.device.directory / "state/state.json").write_bytes(b"{}")
    with pytest.raises(Exception, match="update state"):
        here.device.on()


def test_a_server_that_is_gone_is_asked_again_later(here: Plant) -> None:
    here.change.approve(here.vendor.publish(2))
    here.sites[0].shutdown()
    here.sites[0].server_close()
    assert here.device.update().run() == AFTER_FAILURE
    assert here.device.state.trial is None
