"""USB devices are let in by what they can do, and only by that."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import DecodeError
from appliance.formats.usb_descriptors import usb_classes
from appliance.usb.__main__ import judge
from tests.support.plant import Recorder

CAMERA, KEYBOARD, STORAGE, HUB = 0x0E, 0x03, 0x08, 0x09


def descriptors(*interfaces: int, device_class: int = 0xEF) -> bytes:
    """A device with these interface classes, as the kernel shows it."""
    device = bytes((18, 1, 0, 2, device_class, 2, 1, 64)) + bytes(10)
    configuration = bytes((9, 2)) + bytes(7)
    return device + configuration + b"".join(bytes((9, 4, n, 0, 1, kind, 1, 0, 0)) for n, kind in enumerate(interfaces))


@pytest.mark.parametrize(
    ("data", "classes"),
    [
        (descriptors(CAMERA), {"0e"}),
        (descriptors(CAMERA, KEYBOARD), {"0e", "03"}),
        (descriptors(HUB, device_class=HUB), {"09"}),
        (descriptors(STORAGE, device_class=0xFF), {"ff", "08"}),
    ],
)
def test_classes_of_a_device(data: bytes, classes: set[str]) -> None:
    assert usb_classes(data) == classes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "USB descriptors: they do not begin with a device descriptor"),
        (descriptors(CAMERA)[1:], "USB descriptors: they do not begin with a device descriptor"),
        (descriptors(CAMERA)[:-1], "USB descriptors: the one at byte 27 is cut short"),
        (descriptors() + bytes((5, 4, 0, 0, 1)), "USB descriptors: the interface at byte 27 is cut short"),
        (descriptors() + bytes((0, 0)), "USB descriptors: the one at byte 27 is cut short"),
        (descriptors(), "USB descriptors: no interface"),
    ],
)
def test_bad_descriptors(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        usb_classes(data)
    assert str(caught.value) == message


@given(st.binary(max_size=200))
def test_any_bytes_end_in_classes_or_a_decode_error(tail: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert usb_classes(descriptors() + tail)


@pytest.mark.parametrize(
    ("interfaces", "allowed", "let_in"),
    [
        ((CAMERA,), {"0e"}, True),
        ((CAMERA, KEYBOARD), {"0e"}, False),
        ((STORAGE,), {"0e"}, False),
        ((CAMERA,), set(), False),
        ((HUB,), {"0e"}, True),
    ],
)
def test_only_what_the_profile_names_is_let_in(
    tmp_path: Path, interfaces: tuple[int, ...], allowed: set[str], let_in: bool
) -> None:
    (tmp_path / "descriptors").write_bytes(descriptors(*interfaces))
    (tmp_path / "authorized").write_text("0")
    said = Recorder()
    assert judge(tmp_path, frozenset(allowed), said) is let_in  # type: ignore[arg-type]
    assert said.kinds == ["usb-admitted" if let_in else "usb-refused"]
    assert (tmp_path / "authorized").read_text() == ("1" if let_in else "0")
