"""Licences become SPDX expressions, or keep their own name; nothing is guessed."""

from __future__ import annotations

import pytest

from builder.review.licences import Licence, debian_expression, debian_licence, join_expressions, wheel_licence
from tests.support.copyright_format import HEAD


@pytest.mark.parametrize(
    ("debian", "spdx"),
    [
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GPLv3+", "GPL-3.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("Expat", "MIT"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("zlib", "Zlib"),
        ("public-domain", "LicenseRef-debian-public-domain"),
        ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        ("Expat and GPL-2+", "MIT AND GPL-2.0-or-later"),
        ("A and B or C", "(LicenseRef-debian-A AND LicenseRef-debian-B) OR LicenseRef-debian-C"),
        (
            "GPL-2+ or AFL-2.1, and Expat and Tcl-BSDish",
            "(GPL-2.0-or-later OR AFL-2.1) AND MIT AND LicenseRef-debian-Tcl-BSDish",
        ),
        ("GPL-2 with Linux-syscall-note exception", "GPL-2.0-only WITH Linux-syscall-note"),
        ("GPL-3+ with Autoconf exception", "LicenseRef-debian-GPL-3-with-Autoconf-exception"),
    ],
)
def test_debian_names(debian: str, spdx: str) -> None:
    assert debian_expression(debian) == spdx


def test_a_copyright_file_is_the_sum_of_its_parts() -> None:
    text = HEAD + (
        "Files: *\nCopyright: a\nLicense: GPL-2+\n\nFiles: x/*\nCopyright: b\nLicense: Expat or GPL-2\n\n"
        "License: GPL-2+\n long text\n"
    )
    assert debian_licence(text) == Licence("GPL-2.0-or-later AND (MIT OR GPL-2.0-only)")


def test_a_file_for_people_gives_only_what_it_cites() -> None:
    text = "Packaged by A.\nOn Debian: /usr/share/common-licenses/GPL-2.\nand /usr/share/common-licenses/LGPL-2.1\n"
    assert debian_licence(text) == Licence(None, ("GPL-2", "LGPL-2.1"))


@pytest.mark.parametrize("text", ["", "\n", "Format: x", HEAD, "\x00", HEAD + "Files:\n", "License: GPL-2\n"])
def test_no_text_is_too_strange(text: str) -> None:
    assert debian_licence(text).expression is None


def test_wheels_say_it_in_three_ways() -> None:
    assert wheel_licence(expression="MIT", text=None, classifiers=[]) == Licence("MIT")
    assert wheel_licence(expression=None, text="Apache-2.0", classifiers=[]) == Licence("Apache-2.0")
    classifiers = ["License :: OSI Approved :: MIT License", "Topic :: Software Development"]
    assert wheel_licence(expression=None, text=None, classifiers=classifiers) == Licence(None, ("MIT License",))
    assert wheel_licence(expression=None, text="Do as you like\nreally", classifiers=[]) == Licence(
        None, ("Do as you like",)
    )
    assert wheel_licence(expression=None, text=None, classifiers=[]) == Licence(None)


def test_joining_sorts_and_groups() -> None:
    assert join_expressions(["MIT", "GPL-2.0-only OR MIT", "MIT"]) == "(GPL-2.0-only OR MIT) AND MIT"
    assert join_expressions([]) is None
