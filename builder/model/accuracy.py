"""How often the sealed model is right about label frames: `python -m builder.model.accuracy [FRAMES [SEED]]`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from builder.host.toolstree import default_pool, vm_tree
from builder.lock.store import lock_path, read_lock
from builder.lock.wheels import fetch_wheel
from builder.model.card import Model, read_model
from builder.model.labels import LabelFrame, render, truth_of
from builder.model.verify import Expected, expected_verdicts
from builder.profile.load import load_profile

PROFILE = "virtual-x86_64"
FRAMES, SEED = 200, 1


@dataclass(frozen=True)
class Accuracy:
    """right: of `frames`. mistakes: (truth, label) -> how often. least_ppm: the lowest score of a right label."""

    frames: int
    right: int
    mistakes: dict[tuple[str, str], int]
    least_ppm: int


def locked_model(profile_name: str) -> Model:
    """The model that judges in a profile, out of its locked wheel; that is fetched when the pool lacks it."""
    profile = load_profile(profile_name)
    lock, _data = read_lock(lock_path(profile_name), profile)
    source = next(model for model in profile.software.models if model.name == profile.inference.model)
    pin = source.wheel.lower().replace("_", "-")
    wheel = next(wheel for wheel in lock.wheels if f"{wheel.name}=={wheel.version}" == pin)
    pool = default_pool()
    if not pool.has(wheel.sha256):
        fetch_wheel(wheel, pool, architecture=lock.architecture)
    return read_model(pool.open_verified(wheel.sha256, what=wheel.filename), source)


def label_frames(count: int, *, seed: int) -> Iterator[LabelFrame]:
    """The first frames of a series, printed with the fonts of the vm tree, each drawn when it is asked for."""
    fonts = vm_tree().root / "usr/share/fonts/truetype"
    return (render(index, seed=seed, fonts=fonts) for index in range(count))


def accuracy(truths: Sequence[str], verdicts: Sequence[Expected]) -> Accuracy:
    """Hold verdicts against the truth, in order."""
    pairs = list(zip(truths, verdicts, strict=True))
    mistakes = Counter((truth, verdict.label) for truth, verdict in pairs if truth != verdict.label)
    right = [verdict.score_ppm for truth, verdict in pairs if truth == verdict.label]
    return Accuracy(len(pairs), len(right), dict(sorted(mistakes.items())), min(right, default=0))


def main(arguments: list[str]) -> None:
    """arguments: number of frames, series."""
    count, seed = (int(one) for one in (*arguments, *(str(FRAMES), str(SEED))[len(arguments) :]))
    frames = (frame.frame(number) for number, frame in enumerate(label_frames(count, seed=seed)))
    verdicts = expected_verdicts(locked_model(PROFILE), frames)
    found = accuracy([truth_of(index, seed=seed) for index in range(count)], verdicts)
    lines = [f"{found.right} of {found.frames} frames right ({100 * found.right / found.frames:.1f} %), series {seed}"]
    lines += [f"  {truth} taken for {label}: {times}" for (truth, label), times in found.mistakes.items()]
    lines.append(f"lowest score of a right label: {found.least_ppm / 10_000:.1f} %")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
