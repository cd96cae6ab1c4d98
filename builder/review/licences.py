"""Licences as SPDX expressions: from Debian copyright files (DEP-5) and from the METADATA of wheels.

What has no SPDX name becomes LicenseRef-debian-NAME, so that nothing is lost and every expression stays valid. A file
that no machine can read gives the names of the common licences that it cites, never a guess at an expression.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from debian.copyright import Copyright, Error
from license_expression import ExpressionError, get_spdx_licensing  # type: ignore[import-untyped]

# The library warns about every old format address; what it then reads is right.
logging.getLogger("debian.copyright").setLevel(logging.CRITICAL)

_VERSIONED = re.compile(
    r"(?P<family>A?GPL|LGPL|GFDL(?:-NIV)?)-?v?(?P<version>[0-9](?:\.[0-9])?)(?:\.0)?(?P<later>\+|-only|-or-later)?",
    re.IGNORECASE,
)
_FAMILIES = {
    "agpl": "AGPL",
    "gpl": "GPL",
    "lgpl": "LGPL",
    "gfdl": "GFDL",
    "gfdl-niv": "GFDL-{}-no-invariants",
}
_ALIASES = {
    "apache": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic-1": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0",
    "bsd-2": "BSD-2-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd-4": "BSD-4-Clause",
    "bsl": "BSL-1.0",
    "bzip2": "bzip2-1.0.6",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "gpl": "GPL-1.0-or-later",
    "lgpl": "LGPL-2.0-or-later",
    "python": "PSF-2.0",
    "psf-2": "PSF-2.0",
    "zlib/libpng": "Zlib",
}
_EXCEPTIONS = {
    "linux-syscall-note": "Linux-syscall-note",
    "llvm": "LLVM-exception",
    "classpath": "Classpath-exception-2.0",
    "bison": "Bison-exception-2.2",
    "libtool": "Libtool-exception",
    "font": "Font-exception-2.0",
}
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9])")


@dataclass(frozen=True)
class Licence:
    """expression: a valid SPDX expression, or None; names: what is known in its place, sorted."""

    expression: str | None
    names: tuple[str, ...] = ()


def debian_licence(copyright_text: str) -> Licence:
    """The licences that a Debian copyright file declares for its source package."""
    try:
        parsed = Copyright(copyright_text.splitlines(), strict=False)
        parts: Any = parsed.all_files_paragraphs()
        synopses = {part.license.synopsis for part in parts if part.license}
    except (Error, ValueError):
        synopses = set()
    expression = join_expressions(debian_expression(synopsis) for synopsis in synopses if synopsis.strip())
    return Licence(expression) if expression else Licence(None, _cited(copyright_text))


def wheel_licence(*, expression: str | None, text: str | None, classifiers: Iterable[str]) -> Licence:
    """The licence of a wheel. expression: License-Expression; text: License; classifiers: `License :: …` lines."""
    for candidate in (expression, text):
        if candidate and (valid := _valid(candidate.strip())):
            return Licence(valid)
    lines = {line.split(" :: ")[-1] for line in classifiers if line.startswith("License :: ")}
    names = sorted(lines - {"OSI Approved"})
    short = text.strip().splitlines()[0][:100] if text and text.strip() else None
    return Licence(None, tuple(names) or ((short,) if short else ()))


def join_expressions(expressions: Iterable[str]) -> str | None:
    """All of them hold: joined by AND, each once, sorted. None when there are none."""
    parts = {part for item in expressions for part in (item.split(" AND ") if "(" not in item else [item])}
    unique = sorted(part for part in parts if part)
    if not unique:
        return None
    if len(unique) == 1:
        return unique[0]
    return " AND ".join(f"({item})" if " OR " in item or " AND " in item else item for item in unique)


@functools.cache
def debian_expression(synopsis: str) -> str:
    """One DEP-5 licence line as an SPDX expression. A comma binds weaker than `and` and `or` do."""
    words = " ".join(synopsis.split()).replace(" and/or ", " or ")
    for pattern, joiner in ((r",\s*and ", " AND "), (r",\s*or ", " OR "), (r"\s+or ", " OR "), (r"\s+and ", " AND ")):
        parts = [part.strip(" ,") for part in re.split(pattern, words, flags=re.I) if part.strip(" ,")]
        if len(parts) > 1:
            return joiner.join(_group(debian_expression(part), joiner) for part in parts)
    return _single(words)


def _group(expression: str, joiner: str) -> str:
    other = " OR " if joiner == " AND " else " AND "
    return f"({expression})" if other in expression else expression


def _single(name: str) -> str:
    base, _with, exception = re.sub(r"\s+exceptions?$", "", name, flags=re.I).partition(" with ")
    if exception:
        known = _EXCEPTIONS.get(exception.lower())
        joined = f"{_spdx(base)} WITH {known}" if known and _spdx(base) else None
        return _valid(joined or "") or _reference(name)
    return _spdx(name) or _reference(name)


def _spdx(name: str) -> str | None:
    if versioned := _VERSIONED.fullmatch(name):
        version = versioned["version"] if "." in versioned["version"] else f"{versioned['version']}.0"
        family = _FAMILIES[versioned["family"].lower()]
        if family.startswith("GFDL") and version.endswith(".0"):
            return None
        suffix = "or-later" if versioned["later"] in ("+", "-or-later") else "only"
        stem = family.format(version) if "{}" in family else f"{family}-{version}"
        return f"{stem}-{suffix}"
    return _valid(_ALIASES.get(name.lower(), name))


def _reference(name: str) -> str:
    return "LicenseRef-debian-" + (re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-") or "unnamed")


@functools.cache
def _valid(expression: str) -> str | None:
    """The expression in its normal spelling when every name in it is SPDX's, else None."""
    if not expression or len(expression) > 500 or "\n" in expression:
        return None
    try:
        return str(_licensing().parse(expression, validate=True, strict=True))
    except (ExpressionError, AttributeError, TypeError):
        return None


@functools.cache
def _licensing() -> Any:
    return get_spdx_licensing()


def _cited(text: str) -> tuple[str, ...]:
    return tuple(sorted(set(_COMMON.findall(text))))
