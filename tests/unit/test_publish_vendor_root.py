"""The vendor's root that a build seals, and the ones that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from appliance.core.errors import InputError
from builder.publish.keys import DEVELOPMENT_FIELD
from builder.publish.vendorroot import read_vendor_root, vendor_root_path
from tests.support.tuf_site import T0, at


def _root(*, development: bool = False, signed: bool = True) -> bytes:
    signer = CryptoSigner.generate_ed25519()
    root = Root(expires=at(T0), unrecognized_fields={DEVELOPMENT_FIELD: True} if development else None)
    root.add_key(signer.public_key, "root")
    metadata = Metadata(root)
    if signed:
        metadata.sign(signer)
    return metadata.to_bytes()


def _write(keys: Path, data: bytes) -> Path:
    path = vendor_root_path(keys)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def test_without_a_repository_there_is_none(tmp_path: Path) -> None:
    assert read_vendor_root(tmp_path, release=True) is None


@pytest.mark.parametrize(("development", "release"), [(False, True), (False, False), (True, False)])
def test_it_is_sealed_as_it_is(development: bool, release: bool, tmp_path: Path) -> None:
    data = _root(development=development)
    _write(tmp_path, data)
    assert read_vendor_root(tmp_path, release=release) == data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{}", "this is no TUF root that signs itself"),
        (b"\xff", "this is no TUF root that signs itself"),
        (_root(signed=False), "this is no TUF root that signs itself"),
        (_root(development=True), "a release image must not trust a development repository"),
    ],
    ids=["json", "bytes", "unsigned", "development"],
)
def test_a_release_refuses(data: bytes, said: str, tmp_path: Path) -> None:
    path = _write(tmp_path, data)
    with pytest.raises(InputError) as refused:
        read_vendor_root(tmp_path, release=True)
    assert str(refused.value) == f"{path}: {said}"
