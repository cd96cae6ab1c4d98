"""Names of a product's images: they follow from the product and the root hash, and from nothing else."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from builder.image.seal import VerityImage, product_salt, product_uuid

IMAGE = VerityImage(
    data=Path("root.erofs"),
    hashes=Path("root.verity"),
    root_hash="00112233445566778899aabbccddeeff" + "ffeeddccbbaa99887766554433221100",
    salt=product_salt("edgeseal-virtual"),
    data_size=4096,
    hash_size=4096,
)


def test_partitions_are_the_halves_of_the_root_hash() -> None:
    """The UAPI group's Discoverable Partitions Specification."""
    assert IMAGE.data_partition == UUID("00112233-4455-6677-8899-aabbccddeeff")
    assert IMAGE.hash_partition == UUID("ffeeddcc-bbaa-9988-7766-554433221100")


def test_a_product_keeps_its_salt_and_its_uuids_for_ever() -> None:
    """Another value would make every block of every device differ from the release before."""
    assert product_salt("edgeseal-virtual") == "1740058ebd39920ad9c8ca4c95f33264b87cdd6818ba6688367359b15d639205"
    assert str(product_uuid("edgeseal-virtual", "erofs")) == "db098387-ba60-5a78-b769-a37919fbaafe"


def test_products_and_purposes_differ() -> None:
    names = {product_uuid(product, what) for product in ("a", "b") for what in ("erofs", "verity", "disk")}
    assert len(names) == 6
    assert product_salt("a") != product_salt("b")
