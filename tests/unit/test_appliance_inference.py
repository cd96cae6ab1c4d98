"""Preprocessing against OpenCV's own output, judging, and the source of frames."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from appliance.core.clock import Moment
from appliance.core.errors import DecodeError, EdgesealError, VerificationError
from appliance.formats.device import FrameSource, InferenceConfig
from appliance.formats.frame import Frame, encode_frame
from appliance.formats.model_card import ModelCard
from appliance.inference import session
from appliance.inference.judge import Judge, built_in_frame, self_test
from appliance.inference.preprocess import model_input, scaled_centre
from appliance.inference.session import Session, load_verified_model
from appliance.inference.source import PortSource, open_source

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "preprocess.json").read_text())
CONFIG = InferenceConfig(model="orientation", source=FrameSource(kind="virtio"))
BYTES = b"a model"
CARD = ModelCard(
    name="orientation",
    sha256=hashlib.sha256(BYTES).hexdigest(),
    bytes=len(BYTES),
    labels=("0", "90", "180", "270"),
    input_name="x",
    source="test==1",
    licence="Apache-2.0",
)


def picture(width: int, height: int) -> npt.NDArray[np.uint8]:
    """The picture that the vectors describe."""
    y, x = np.indices((height, width), dtype=np.int64)
    planes = [(x * 7 + y * 13 + x * y % 251) % 256, (x * x // 5 + y * 3) % 256]
    planes.append(np.where((x // 9 + y // 5) % 2 == 0, 255, (x + y) % 256))
    return np.stack(planes, axis=2).astype(np.uint8)


def frame(width: int = 64, height: int = 64, sequence: int = 3) -> Frame:
    return Frame(sequence, width, height, picture(width, height).tobytes())


class FakeModel:
    """Answers with fixed scores, one set after the other."""

    def __init__(self, *scores: list[float]) -> None:
        self._scores = list(scores)
        self.seen: list[npt.NDArray[np.float32]] = []

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.seen.append(batch)
        return np.array(self._scores[min(len(self.seen), len(self._scores)) - 1], dtype=np.float32)


class NoWait:
    """A waiter that never stops and never sleeps."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self._reader, self._writer = os.pipe()

    def fileno(self) -> int:
        return self._reader

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)


@pytest.mark.parametrize("vector", VECTORS["scaled"], ids=lambda vector: f"{vector['width']}x{vector['height']}")
def test_scaling_gives_the_bytes_that_opencv_gives(vector: dict[str, Any]) -> None:
    pixels = picture(vector["width"], vector["height"])
    square = scaled_centre(pixels, short=vector["resize_short"], crop=vector["crop"])
    assert hashlib.sha256(square.tobytes()).hexdigest() == vector["sha256"]


def test_normalising_gives_what_the_models_own_code_gives() -> None:
    """The vector was made from the picture as it is, so the channels are not turned round here."""
    card = ModelCard(**{**{name: getattr(CARD, name) for name in CARD.__struct_fields__}, "channel_order": "rgb"})
    batch = model_input(frame(640, 480), card)
    assert (batch.shape, batch.dtype, batch.flags.c_contiguous) == ((1, 3, 224, 224), np.float32, True)
    assert batch[0, :, 0, 0].tolist() == pytest.approx(VECTORS["normalised_640x480_first"], abs=1e-5)
    total = float(batch.astype(np.float64).sum())
    assert total == pytest.approx(VECTORS["normalised_640x480_sum_rounded"], abs=1.0)


def test_channels_are_turned_round_for_a_bgr_model() -> None:
    red = Frame(0, 64, 64, bytes([255, 0, 0]) * 64 * 64)
    batch = model_input(red, CARD)
    assert batch[0, 2].min() > batch[0, 0].max()


def test_a_verdict_says_what_was_judged_by_what() -> None:
    model = FakeModel([0.1, 0.25, 0.6, 0.05])
    times = iter([10, 1_000, 2_000])
    judge = Judge(model, CARD, CONFIG, device="cell-7", clock=lambda: Moment("0" * 32, next(times), 0))
    first = judge.judge(frame(sequence=2**64 - 1), received_us=400)
    assert (first.label, first.score_ppm, first.sequence, first.start_us) == ("180", 600_000, 1, 10)
    assert (first.frame_sequence, first.latency_us, first.monotonic_us) == ("18446744073709551615", 600, 1_000)
    assert first.frame_sha256 == hashlib.sha256(frame().pixels).hexdigest()
    assert judge.judge(frame(), received_us=0).sequence == 2


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[0.5, 0.5, 0, 0], [0.4, 0.6, 0, 0]], "model orientation judged the same frame in two ways"),
        ([[0.5, 0.1, 0, 0]], "model orientation gave scores that are no probabilities: [0.5, "),
        ([[1.5, -0.5, 0, 0]], "model orientation gave scores that are no probabilities: [1.5, -0.5, 0.0, 0.0]"),
    ],
)
def test_a_model_that_does_not_work_is_found_at_start(scores: list[list[float]], message: str) -> None:
    with pytest.raises(EdgesealError) as caught:
        self_test(FakeModel(*scores), CARD)
    assert str(caught.value).startswith(message)


def test_the_built_in_frame_is_the_same_everywhere() -> None:
    digest = hashlib.sha256(built_in_frame(CARD).pixels).hexdigest()
    assert digest == "e224d08bd113c7d8b734096167c9bcd0ac669f019e26658d1eb1e72d38e3b5d2"
    self_test(FakeModel([0.25, 0.25, 0.25, 0.25]), CARD)


def test_a_model_is_held_against_its_card(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(EdgesealError, match=r"cannot read the model .*: No such file or directory"):
        load_verified_model(path, CARD)
    path.write_bytes(b"another")
    other = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(VerificationError, match=f"model orientation: SHA-256 {other}, its card says {CARD.sha256}"):
        load_verified_model(path, CARD)
    path.write_bytes(b"longer than it")
    with pytest.raises(VerificationError, match="model orientation: 14 bytes, its card says 7"):
        load_verified_model(path, CARD)
    path.write_bytes(BYTES)
    assert load_verified_model(path, CARD) == BYTES


def test_there_is_no_fallback_to_another_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    config = InferenceConfig(model="orientation", source=FrameSource(kind="virtio"), execution_provider="qnn")
    monkeypatch.setattr(session.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EdgesealError) as caught:
        Session(BYTES, CARD, config)
    assert str(caught.value) == "execution provider qnn is not in this image"
    assert caught.value.hint == "it has CPUExecutionProvider; there is no fallback"


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(EdgesealError, match=r"^model orientation cannot be loaded: "):
        Session(BYTES, CARD, CONFIG)


def test_telemetry_is_off_before_the_runtime_is_imported() -> None:
    source = Path(session.__file__).read_text()
    assert source.index('os.environ["ORT_DISABLE_TELEMETRY"] = "1"') < source.index("import onnxruntime")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def port(tmp_path: Path, *, width: int = 64, height: int = 64) -> FrameSource:
    """A pipe in place of the virtio port; only the path's check is passed over."""
    os.mkfifo(tmp_path / "port")
    return FrameSource(kind="virtio", device=str(tmp_path / "port"), width=width, height=height)


def test_frames_come_out_whole_however_they_arrive(tmp_path: Path) -> None:
    config = port(tmp_path)
    source = open_source(config, NoWait())
    frames = [frame(16, 16, number) for number in range(3)]
    data = b"".join(map(encode_frame, frames))
    got = []
    with Path(config.device).open("wb", buffering=0) as host:
        for start in range(0, len(data), 100):
            host.write(data[start : start + 100])
            while (one := source.next(NoWait(), 0)) is not None:
                got.append(one)
    assert got == frames
    source.close()


def test_after_nonsense_the_port_is_opened_anew(tmp_path: Path) -> None:
    config = port(tmp_path)
    source = PortSource(config)
    with Path(config.device).open("wb", buffering=0) as host:
        host.write(encode_frame(frame(128, 64)))
        with pytest.raises(DecodeError, match="frame: 128x64 is more than 4096 pixels"):
            source.next(NoWait(), 0)
        source.reopen()
    source.close()


def test_a_host_that_has_not_connected_is_waited_for(tmp_path: Path) -> None:
    """The kernel says end-of-file at once, again and again: that must not become a busy loop."""
    (tmp_path / "nobody").touch()
    source = PortSource(FrameSource(kind="virtio", device=str(tmp_path / "nobody")))
    waiter = NoWait()
    assert source.next(waiter, 5) is None
    assert waiter.waited == [0.5]
    source.close()


def test_a_source_that_never_appears_and_one_that_is_not_supported(tmp_path: Path) -> None:
    waiter = NoWait()
    missing = FrameSource(kind="virtio", device="/dev/virtio-ports/nobody")
    with pytest.raises(EdgesealError) as caught:
        open_source(missing, waiter, attempts=3)
    assert waiter.waited == [0.5, 0.5, 0.5]
    assert str(caught.value) == "cannot open the frame source /dev/virtio-ports/nobody: No such file or directory"
    with pytest.raises(EdgesealError) as caught:
        open_source(FrameSource(kind="v4l2", device="/dev/video0"), waiter)
    assert str(caught.value) == ("the frame source /dev/video0 is a camera, and this version cannot read cameras yet")
