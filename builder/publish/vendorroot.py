"""The vendor's TUF root as builds seal it: what a device trusts from its first day on."""

from __future__ import annotations

from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from appliance.core.errors import InputError, Place
from builder.publish.keys import TRUSTED_ROOT
from builder.publish.repository import root_is_development


def vendor_root_path(keys: Path) -> Path:
    """Where `edgeseal repo init` leaves it, below a directory of build keys."""
    return keys / "tuf" / TRUSTED_ROOT


def read_vendor_root(keys: Path, *, release: bool) -> bytes | None:
    """None when no repository was made with these keys: then the image takes no updates.

    Raises InputError when it is no root that signs itself, or a development root in a release.
    """
    path = vendor_root_path(keys)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        root = Metadata[Root].from_bytes(data)
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (DeserializationError, RepositoryError, AttributeError) as error:
        raise InputError("this is no TUF root that signs itself", place=Place(str(path))) from error
    if release and root_is_development(root.signed):
        raise InputError(
            "a release image must not trust a development repository",
            place=Place(str(path)),
            hint="make the release repository first: docs/how-to/publish-an-update.md",
        )
    return data
