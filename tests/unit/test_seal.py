"""Names of a product's images: they follow from the product and what is in the image, and from nothing else."""

from __future__ import annotations

from builder.image.seal import image_uuid, product_salt, product_uuid


def test_two_images_share_a_uuid_only_when_they_are_the_same() -> None:
    """By it a kernel image finds its slot: the other slot must never answer to it."""
    same = {"tree_digest": "ab" * 32, "options": ["-zzstd", "-T1"]}
    seen = {
        image_uuid("a", "erofs", **same),
        image_uuid("a", "verity", **same),
        image_uuid("b", "erofs", **same),
        image_uuid("a", "erofs", **same | {"tree_digest": "cd" * 32}),
        image_uuid("a", "erofs", **same | {"options": ["-zzstd", "-T2"]}),
    }
    assert len(seen) == 5
    assert image_uuid("a", "erofs", **same) in seen


def test_a_product_keeps_its_salt_and_its_uuids_for_ever() -> None:
    """Another salt would make every block of every device differ from the release before."""
    assert product_salt("edgeseal-virtual") == "1740058ebd39920ad9c8ca4c95f33264b87cdd6818ba6688367359b15d639205"
    assert str(product_uuid("edgeseal-virtual", "disk")) == "72efdb37-4f3f-5585-9696-7a067e35969b"


def test_products_and_purposes_differ() -> None:
    names = {product_uuid(product, what) for product in ("a", "b") for what in ("erofs", "verity", "disk")}
    assert len(names) == 6
    assert product_salt("a") != product_salt("b")
