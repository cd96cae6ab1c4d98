"""Media: the label's vectors, every name that is refused, and every way in which a medium can be hostile or broken."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.errors import DecodeError
from appliance.formats.bundle import Bundle, decode_bundle, encode_bundle, path_parts
from appliance.formats.release import Content
from appliance.update.medium import MediumRepository, TreeRepository, read_label
from appliance.update.ranges import ByteRange
from appliance.update.transport import NotThereError, TooMuchDataError, TransportError

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "bundle.json").read_text())
LABEL = VECTORS["labels"][0]["canonical"].encode()
DIGEST = "ab" * 32
CONTENT = Content(sha256=DIGEST, size=10)


@pytest.mark.parametrize("vector", VECTORS["labels"])
def test_the_labels(vector: Any) -> None:
    label = decode_bundle(vector["canonical"].encode())
    assert label == msgspec.convert(vector["value"], Bundle)
    assert encode_bundle(label).decode() == vector["canonical"]


@pytest.mark.parametrize("path", VECTORS["paths"]["good"])
def test_a_name(path: str) -> None:
    assert "/".join(path_parts(path)) == path


@pytest.mark.parametrize("path", VECTORS["paths"]["bad"])
def test_a_name_that_is_none(path: str, tmp_path: Path) -> None:
    with pytest.raises(DecodeError) as refusal:
        path_parts(path)
    assert str(refusal.value) == f"bundle: no path of a repository: {path[:200]!r}"
    with pytest.raises(NotThereError) as missing:
        MediumRepository(tmp_path, "vendor").get(path, at_most=10)
    assert str(missing.value) == f"medium: vendor/{path}: no file of a repository has such a name"


def edited(**changes: Any) -> bytes:
    return json.dumps(json.loads(LABEL) | changes, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def product(**changes: Any) -> dict[str, Any]:
    return {"models": [], "policy_sequence": 1, "product": "a", "versions": [8]} | changes


def carried(model: str, *versions: int) -> dict[str, Any]:
    return {"model": model, "versions": versions or [1]}


BAD_LABELS = [
    ("nothing", b"", "Input data was truncated"),
    ("not canonical", LABEL[:-1], "not in canonical form"),
    ("an unknown key", edited(any=1), "Object contains unknown field `any`"),
    ("another schema", edited(schema=2), "Invalid enum value 2 - at `$.schema`"),
    ("no files", edited(files=0), "Expected `int` >= 1 - at `$.files`"),
    (
        "products out of order",
        edited(products=json.loads(LABEL)["products"][::-1]),
        "products are not in ascending order",
    ),
    (
        "versions out of order",
        edited(products=[{"policy_sequence": 1, "product": "a", "versions": [9, 8]}]),
        "the versions of a are not in ascending order",
    ),
    (
        "models out of order",
        edited(products=[product(models=[carried("b"), carried("a")])]),
        "the models of a are not in ascending order",
    ),
    (
        "versions of a model out of order",
        edited(products=[product(models=[carried("b", 2, 1)])]),
        "the versions of model b are not in ascending order",
    ),
    (
        "a model without a version",
        edited(products=[product(models=[{"model": "b", "versions": []}])]),
        "Expected `array` of length >= 1 - at `$.products[0].models[0].versions`",
    ),
    ("too long", LABEL + b" " * 65_536, f"{len(LABEL) + 65_536} bytes, at most 65536 are allowed"),
]


@pytest.mark.parametrize(("data", "said"), [row[1:] for row in BAD_LABELS], ids=[row[0] for row in BAD_LABELS])
def test_a_label_that_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_bundle(data)
    assert str(refusal.value) == f"bundle: {said}"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A medium with one file of metadata, one of content, and a label."""
    base = tmp_path / "mount/EDGESEAL"
    (base / "vendor/metadata").mkdir(parents=True)
    (base / "vendor/content/ab").mkdir(parents=True)
    (base / "vendor/metadata/timestamp.json").write_bytes(b"0123456789")
    (base / f"vendor/content/ab/{DIGEST}").write_bytes(b"0123456789")
    (base / "bundle.json").write_bytes(LABEL)
    (tmp_path / "secret").write_bytes(b"not for the updater")
    return tmp_path / "mount"


def test_what_is_there_is_read(mount: Path) -> None:
    vendor = MediumRepository(mount, "vendor")
    assert vendor.get("metadata/timestamp.json", at_most=10) == b"0123456789"
    assert list(vendor.read(CONTENT, [ByteRange(3, 4), ByteRange(0, 1), ByteRange(0, 10)])) == [
        b"3456",
        b"0",
        b"0123456789",
    ]
    assert read_label(mount) == decode_bundle(LABEL)


def test_an_empty_file_is_no_metadata_but_no_fault_either(mount: Path) -> None:
    (mount / "EDGESEAL/vendor/metadata/timestamp.json").write_bytes(b"")
    assert MediumRepository(mount, "vendor").get("metadata/timestamp.json", at_most=10) == b""


def replace(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """The metadata file is something else instead."""

    def spoil(mount: Path) -> None:
        path = mount / "EDGESEAL/vendor/metadata/timestamp.json"
        path.unlink()
        make(path)

    return spoil


def replace_directory(mount: Path) -> None:
    """The directory of the metadata is a link to one that looks the same."""
    base = mount / "EDGESEAL/vendor"
    (base / "metadata").rename(mount / "elsewhere")
    (base / "metadata").symlink_to(mount / "elsewhere")


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a Unix socket's name has at most 107 bytes
        server.bind(path.name)


NAME = "medium: vendor/metadata/timestamp.json"
HOSTILE: list[tuple[str, Callable[[Path], object], type[TransportError], str]] = [
    (
        "not there",
        lambda mount: (mount / "EDGESEAL/vendor/metadata/timestamp.json").unlink(),
        NotThereError,
        "not there",
    ),
    ("no bundle", lambda mount: (mount / "EDGESEAL").rename(mount / "OTHER"), NotThereError, "not there"),
    (
        "a link out of the medium",
        replace(lambda path: path.symlink_to(path.parents[4] / "secret")),
        TransportError,
        "a link, or a file in the place of a directory",
    ),
    (
        "a link within the medium",
        replace(lambda path: path.symlink_to("../content")),
        TransportError,
        "a link, or a file in the place of a directory",
    ),
    (
        "a link to itself",
        replace(lambda path: path.symlink_to(path)),
        TransportError,
        "a link, or a file in the place of a directory",
    ),
    (
        "a link instead of a directory",
        replace_directory,
        TransportError,
        "a link, or a file in the place of a directory",
    ),
    (
        "the bundle is a link",
        lambda mount: ((mount / "EDGESEAL").rename(mount / "OTHER"), (mount / "EDGESEAL").symlink_to("OTHER")),
        TransportError,
        "a link, or a file in the place of a directory",
    ),
    (
        "a file instead of a directory",
        lambda mount: ((mount / "EDGESEAL/vendor").rename(mount / "x"), (mount / "EDGESEAL/vendor").write_text("x")),
        TransportError,
        "a link, or a file in the place of a directory",
    ),
    ("a directory instead of a file", replace(lambda path: path.mkdir()), TransportError, "not a regular file"),
    ("a pipe that nobody writes to", replace(lambda path: os.mkfifo(path)), TransportError, "not a regular file"),
    ("a socket", replace(listen), TransportError, "not a regular file"),
    (
        "more than is allowed",
        replace(lambda path: path.write_bytes(b"x" * 11)),
        TooMuchDataError,
        "11 bytes, at most 10 are allowed",
    ),
    (
        "a file that claims to be endless",
        replace(lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40)),
        TooMuchDataError,
        f"{1 << 40} bytes, at most 10 are allowed",
    ),
]


@pytest.mark.parametrize(("spoil", "kind", "said"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_hostile_medium(
    spoil: Callable[[Path], object],
    kind: type[TransportError],
    said: str,
    mount: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(mount)
    spoil(mount)
    found: list[BaseException] = []

    def ask() -> None:
        try:
            MediumRepository(mount, "vendor").get("metadata/timestamp.json", at_most=10)
        except BaseException as error:
            found.append(error)

    asking = threading.Thread(target=ask, daemon=True)  # a pipe would hold it up for ever
    asking.start()
    asking.join(10)
    assert not asking.is_alive(), "it waits for the medium"
    assert [(type(error), str(error)) for error in found] == [(kind, f"{NAME}: {said}")]


def test_a_device_node_is_not_opened_as_a_file(mount: Path) -> None:
    """/dev/zero, which would never end."""
    with pytest.raises(TransportError) as refusal:
        TreeRepository(Path("/dev"), called="medium").get("zero", at_most=10)
    assert str(refusal.value) == "medium/zero: not a regular file"


@pytest.mark.parametrize("size", [0, 9, 11])
def test_content_of_another_size_is_not_read(size: int, mount: Path) -> None:
    (mount / f"EDGESEAL/vendor/content/ab/{DIGEST}").write_bytes(b"x" * size)
    with pytest.raises(TransportError) as refusal:
        list(MediumRepository(mount, "vendor").read(CONTENT, [ByteRange(0, 1)]))
    assert str(refusal.value) == f"medium: vendor/content/ab/{DIGEST}: {size} bytes instead of 10"
    assert refusal.value.hint == "the medium is damaged, or was pulled out: write the bundle to another one"


def test_content_that_becomes_shorter_while_it_is_read(mount: Path) -> None:
    reading = MediumRepository(mount, "vendor").read(CONTENT, [ByteRange(0, 2), ByteRange(2, 8)])
    assert next(reading) == b"01"
    os.truncate(mount / f"EDGESEAL/vendor/content/ab/{DIGEST}", 4)
    with pytest.raises(TransportError) as refusal:
        next(reading)
    assert str(refusal.value) == f"medium: vendor/content/ab/{DIGEST}: it ends at 4, 6 bytes too early"


@pytest.mark.parametrize("at", ["open", "pread"])
def test_a_medium_that_was_pulled_out(at: str, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, at, fail)
    with pytest.raises(TransportError) as refusal:
        MediumRepository(mount, "vendor").get("metadata/timestamp.json", at_most=10)
    assert str(refusal.value) == f"{NAME}: input/output error"
    assert refusal.value.hint == "the medium is damaged, or was pulled out: write the bundle to another one"


def test_no_descriptor_stays_open(mount: Path) -> None:
    vendor = MediumRepository(mount, "vendor")
    for name in ("metadata/timestamp.json", "metadata/none.json", "content/ab", "none/none.json"):
        with pytest.raises(TransportError):
            vendor.get(name, at_most=5)
    reading = vendor.read(CONTENT, [ByteRange(0, 1), ByteRange(1, 1)])
    next(reading)
    assert opened_below(mount) == [f"EDGESEAL/vendor/{CONTENT.path}"], "this is how one is seen"
    reading.close()
    assert opened_below(mount) == []


def opened_below(mount: Path) -> list[str]:
    """What this process has open there. What other tests left to the collector of garbage is not counted."""
    found = []
    for link in sorted(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(link.readlink())
    return sorted(str(path.relative_to(mount)) for path in found if path.is_relative_to(mount))
