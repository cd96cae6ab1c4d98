"""What a model says of frames through the device's own code."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.core.clock import Moment
from appliance.formats.device import FrameSource, InferenceConfig
from appliance.formats.frame import Frame
from appliance.formats.verdict import Verdict
from appliance.inference.judge import Judge
from appliance.inference.session import Session
from builder.model.card import Model


def device_verdicts(model: Model, frames: Iterable[Frame]) -> list[Verdict]:
    """One verdict per frame, on the CPU execution provider with one thread. The clock stands still."""
    config = InferenceConfig(model=model.name, source=FrameSource(kind="virtio"))
    session = Session(model.onnx, model.card, config)
    judge = Judge(session, model.card, config, device="host", clock=lambda: Moment("0" * 32, 0, 0))
    return [judge.judge(frame, received_us=0) for frame in frames]
