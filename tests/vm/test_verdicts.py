"""Frames in, verdicts out: through the real camera channel, the real model and a real broker."""

from __future__ import annotations

import pytest

from builder.host.toolstree import default_pool, vm_tree
from builder.lock.store import lock_path, read_lock
from builder.model.labels import render
from builder.model.verify import SCORE_TOLERANCE_PPM, expected_verdicts
from builder.pipeline import read_models
from builder.profile.load import load_profile
from builder.vm.historian import Historian
from tests.support.images import X86
from tests.support.machine import Machine

pytestmark = pytest.mark.xdist_group("vm-update")  # three tests: so that no other group waits behind it

SEED = 7
FRAMES = 8


def test_the_device_says_what_the_builder_expects(vm: Machine, historian: Historian) -> None:
    frames = [render(index, seed=SEED, fonts=vm_tree().root / "usr/share/fonts/truetype") for index in range(FRAMES)]
    profile = load_profile(X86)
    lock, _ = read_lock(lock_path(X86), profile)
    (model,) = read_models(profile, lock, default_pool())
    expected = expected_verdicts(model, [frame.frame(index) for index, frame in enumerate(frames)])
    for index, frame in enumerate(frames):
        vm.show(frame.frame(index))
        verdict = historian.next(within_s=120, check=vm.vm.require_alive).verdict
        assert verdict is not None
        assert (verdict.frame_sequence, verdict.label) == (str(index), expected[index].label)
        assert abs(verdict.score_ppm - expected[index].score_ppm) <= SCORE_TOLERANCE_PPM
        assert verdict.model_sha256 == model.card.sha256


def test_a_verdict_waits_for_the_broker(vm: Machine, historian: Historian) -> None:
    vm.succeed(["systemctl", "stop", "edgeseal-uplink.service", "edgeseal-uplink.socket"])
    vm.show(render(0, seed=SEED, fonts=vm_tree().root / "usr/share/fonts/truetype").frame(41))
    vm.succeed(["systemctl", "start", "edgeseal-uplink.socket", "edgeseal-uplink.service"])
    verdict = historian.next(within_s=120, check=vm.vm.require_alive).verdict
    assert verdict is not None
    assert verdict.frame_sequence == "41"
