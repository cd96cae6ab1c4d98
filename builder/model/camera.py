"""What stands between a label and a frame: the ground it lies on, the angle, light, lens and sensor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image, ImageFilter

WIDTH, HEIGHT = 640, 480
OVERSAMPLING = 2
_GROUNDS = ((62, 66, 70), (34, 36, 40), (150, 122, 90), (120, 126, 130), (40, 62, 92), (176, 172, 164))
_OCTAVES = ((320, 12), (96, 5), (24, 4), (8, 3))  # (size in oversampled pixels, strength in grey levels)

Size = tuple[int, int]
Picture = npt.NDArray[np.float32]
Corners = npt.NDArray[np.float64]


def photograph(label: Image.Image, turn: int, rng: Generator) -> bytes:
    """A frame of WIDTH x HEIGHT, RGB, of `label` turned clockwise by `turn` degrees, and held a little askew."""
    size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
    quad = _corners(label.size, turn, rng) * OVERSAMPLING
    coefficients = _homography(quad, label.size)
    flat = label.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
    whole = Image.new("L", label.size, 255)
    mask = whole.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    scene = _ground(size, rng)
    scene.paste((12, 12, 14), mask=_shadow(mask, rng))
    scene.paste(flat, mask=mask)
    small = scene.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    blurred = small.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.4))))
    return _expose(np.asarray(blurred, dtype=np.float32), rng)


def _corners(size: Size, turn: int, rng: Generator) -> Corners:
    """Where the label's corners (from top left, clockwise) stand in the frame."""
    width, height = size
    across, down = (width, height) if turn % 180 == 0 else (height, width)
    scale = float(rng.uniform(0.88, 1.02)) * min(590 / across, 450 / down)
    x, y = width * scale / 2, height * scale / 2
    corners = np.array([(-x, -y), (x, -y), (x, y), (-x, y)], dtype=np.float64)
    corners += rng.uniform(-20, 20, corners.shape)
    angle = np.radians(turn + rng.uniform(-7, 7))
    rotation = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    turned: Corners = corners @ rotation + (WIDTH / 2, HEIGHT / 2) + rng.uniform(-18, 18, 2)
    return turned


def _homography(quad: Corners, size: Size) -> tuple[float, ...]:
    """Pillow's eight coefficients: from a point of the frame to a point of the label."""
    width, height = size
    rows: list[tuple[float, ...]] = []
    values: list[float] = []
    for (x, y), (u, v) in zip(quad, [(0, 0), (width, 0), (width, height), (0, height)], strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return tuple(float(value) for value in np.linalg.solve(np.array(rows), np.array(values)))


def _shadow(mask: Image.Image, rng: Generator) -> Image.Image:
    """How dark the ground is beside the label."""
    right, down = (int(value) for value in rng.integers(4, 18, 2))
    shadow = Image.new("L", mask.size, 0)
    shadow.paste(mask.point(lambda value: value * 0.55), (right, down))
    return shadow.filter(ImageFilter.GaussianBlur(9))


def _ground(size: Size, rng: Generator) -> Image.Image:
    """A belt, a table or cardboard: a colour with grain of several sizes, and fibres along it."""
    colour = np.array(_GROUNDS[int(rng.integers(len(_GROUNDS)))], dtype=np.float32)
    grain = _grain(size, 2, 2, rng) * 5
    for step, strength in _OCTAVES:
        grain += _grain(size, step, step, rng) * strength
    grain += _grain(size, 160, 2, rng) * float(rng.uniform(0, 6))
    return Image.fromarray(np.clip(colour + grain[:, :, np.newaxis], 0, 255).astype(np.uint8))


def _grain(size: Size, across: int, down: int, rng: Generator) -> Picture:
    """Smooth noise: one independent value each `across` pixels in a row and each `down` rows."""
    shape = (size[1] // down + 2, size[0] // across + 2)
    small = Image.fromarray(rng.normal(0, 1, shape).astype(np.float32))
    return np.array(small.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)


def _expose(picture: Picture, rng: Generator) -> bytes:
    """Uneven light, a soft reflection, white balance and the sensor's noise."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    x, y = columns / WIDTH - 0.5, rows / HEIGHT - 0.5
    angle = float(rng.uniform(0, 2 * np.pi))
    light = 0.9 + float(rng.uniform(0.1, 0.7)) * (x * np.cos(angle) + y * np.sin(angle))
    light -= float(rng.uniform(0, 0.5)) * (x * x + y * y)
    glare_x, glare_y = rng.uniform(-0.5, 0.5, 2)
    glare = np.exp(-((x - glare_x) ** 2 + (y - glare_y) ** 2) / float(rng.uniform(0.01, 0.05)))
    balance = rng.uniform(0.94, 1.05, 3).astype(np.float32)
    lit = picture * light[:, :, np.newaxis] * balance + float(rng.uniform(0, 45)) * glare[:, :, np.newaxis]
    noise = rng.normal(0, float(rng.uniform(1, 8)), lit.shape)
    exposed: npt.NDArray[np.uint8] = np.clip(lit + noise, 0, 255).astype(np.uint8)
    return exposed.tobytes()
