"""What follows from a profile alone and decides over its security, as text that a person can review."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from builder.boot.cmdline import command_line
from builder.disk.layout import definitions
from builder.image.seal import VerityImage, product_salt
from builder.network.ruleset import compile_ruleset
from builder.profile.load import load_profile, profile_names
from builder.profile.types import Profile
from builder.rootfs.files import SERVICE_UIDS
from tests.conftest import Golden

HERE = Path(__file__).parent
ROOT_HASH = "0123456789abcdef" * 2 + "fedcba9876543210" * 2


def image_of(profile: Profile) -> VerityImage:
    """A root that nobody made."""
    return VerityImage(
        data=Path("root.erofs"),
        hashes=Path("root.verity"),
        root_hash=ROOT_HASH,
        salt=product_salt(profile.product),
        data_size=4096,
        hash_size=8192,
        data_uuid=UUID(int=1),
        hash_uuid=UUID(int=2),
    )


@pytest.mark.parametrize("name", profile_names())
def test_kernel_command_line(name: str, golden: Golden) -> None:
    profile = load_profile(name)
    line = command_line(profile, image_of(profile), root_hash_signature=b"signature of the root hash")
    assert "\n" not in line
    golden(HERE / f"{name}.command-line.txt", "".join(f"{word}\n" for word in line.split(" ")))


@pytest.mark.parametrize("name", profile_names())
def test_partitions(name: str, golden: Golden) -> None:
    profile = load_profile(name)
    files = definitions(profile, image_of(profile), esp_source=Path("esp"))
    golden(HERE / f"{name}.repart.txt", "\n".join(f"# {file}\n{text}" for file, text in sorted(files.items())))


@pytest.mark.parametrize("name", profile_names())
def test_packet_filter(name: str, golden: Golden) -> None:
    ruleset = compile_ruleset(load_profile(name).network, name=name, uids=SERVICE_UIDS)
    golden(HERE / f"{name}.nftables.txt", ruleset.decode())
