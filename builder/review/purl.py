"""Package URLs of locked items: one spelling for the bill of materials and the provenance."""

from __future__ import annotations

from packageurl import PackageURL

from builder.lock.types import LockedPackage, LockedWheel
from builder.review.facts import normalised


def package_purl(item: LockedPackage, distribution: str) -> PackageURL:
    """distribution: as in the lock, `debian/trixie`."""
    family, _, release = distribution.partition("/")
    return PackageURL("deb", family, item.name, item.version, qualifiers={"arch": item.architecture, "distro": release})


def wheel_purl(item: LockedWheel) -> PackageURL:
    """With the file name, because one version has many wheels."""
    return PackageURL("pypi", None, normalised(item.name), item.version, qualifiers={"file_name": item.filename})
