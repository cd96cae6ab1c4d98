"""The mirrors are those of the machine's own apt, told apart by the label in their signed headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.errors import InputError
from builder.lock.mirrors import Mirrors, choose_mirrors

HEADER = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nLabel: {}\nSuite: y\n-----BEGIN PGP SIGNATURE-----\n"
SOURCES = {
    "other": ("https://vendor.test/linux/debian", "Docker CE"),
    "main": ("http://mirror.test/debian", "Debian"),
    "again": ("http://second.test/debian", "Debian"),
    "security": ("http://mirror.test/debian-security", "Debian-Security"),
}


def _fetched(lists: Path, *names: str) -> str:
    """What apt would print, with the headers of these sources in `lists`."""
    for name in names:
        (lists / f"{name}_InRelease").write_text(HEADER.format(SOURCES[name][1]))
    return "".join(f"'{SOURCES[name][0]}/dists/stable/InRelease' {name}_InRelease 0 \n" for name in SOURCES)


def test_the_first_source_of_each_label(tmp_path: Path) -> None:
    printed = _fetched(tmp_path, *SOURCES)
    assert choose_mirrors(printed, tmp_path) == Mirrors(
        "http://mirror.test/debian/", "http://mirror.test/debian-security/"
    )


@pytest.mark.parametrize("missing", ["main", "security"])
def test_an_archive_that_could_not_be_reached_is_missed(missing: str, tmp_path: Path) -> None:
    names = [name for name in SOURCES if name not in (missing, "again")]
    with pytest.raises(InputError, match="knows no Debian mirror, or no security mirror"):
        choose_mirrors(_fetched(tmp_path, *names), tmp_path)
