"""What a package or a wheel says about itself, for the bill of materials: licence, supplier, what it depends on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.parser import HeaderParser

from debian.deb822 import Deb822, PkgRelation

from builder.review.licences import Licence, debian_licence, wheel_licence


@dataclass(frozen=True)
class PackageFacts:
    """One Debian package. depends: groups of alternatives, as names; provides: names that it stands for."""

    licence: Licence
    supplier: str
    depends: tuple[tuple[str, ...], ...] = ()
    provides: tuple[str, ...] = ()


@dataclass(frozen=True)
class WheelFacts:
    """One wheel. installed: false when only a model is taken from it. requires: normalised names."""

    licence: Licence
    installed: bool
    supplier: str | None = None
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelFacts:
    """One model. wheel: NAME==VERSION it came in; file: path there; inputs, outputs: `name: type[shape]`."""

    name: str
    sha256: str
    size: int
    licence: Licence
    wheel: str
    file: str
    labels: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def package_facts(control: bytes, copyright_text: str | None) -> PackageFacts:
    """control: the package's control file; copyright_text: its /usr/share/doc/NAME/copyright, if it has one."""
    fields = Deb822(control)
    depends = [*_relations(fields.get("Pre-Depends", "")), *_relations(fields.get("Depends", ""))]
    return PackageFacts(
        licence=debian_licence(copyright_text) if copyright_text else Licence(None),
        supplier=fields.get("Maintainer", "Debian"),
        depends=tuple(dict.fromkeys(depends)),
        provides=tuple(sorted({name for group in _relations(fields.get("Provides", "")) for name in group})),
    )


def wheel_facts(metadata: bytes, *, installed: bool) -> WheelFacts:
    """metadata: the METADATA file of the wheel's .dist-info directory."""
    fields = HeaderParser().parsestr(metadata.decode("utf-8", "replace"))
    licence = wheel_licence(
        expression=fields.get("License-Expression"),
        text=fields.get("License"),
        classifiers=fields.get_all("Classifier", []),
    )
    requires = {normalised(match[0]) for line in fields.get_all("Requires-Dist", []) if (match := _needed(line))}
    supplier = fields.get("Author") or fields.get("Author-email") or fields.get("Maintainer-email")
    return WheelFacts(licence=licence, installed=installed, supplier=supplier, requires=tuple(sorted(requires)))


def normalised(name: str) -> str:
    """A Python project's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needed(requirement: str) -> re.Match[str] | None:
    """The name at the front. Extras are not asked for, so what stands behind them is not needed."""
    if re.search(r"\bextra\s*==", requirement):
        return None
    return re.match(r"[A-Za-z0-9._-]+", requirement)


def _relations(text: str) -> Iterable[tuple[str, ...]]:
    for group in PkgRelation.parse_relations(text) if text.strip() else []:
        yield tuple(item["name"].split(":")[0] for item in group)
