"""load: the only step that reads YAML. A path or a name in, a Profile out, or everything that is wrong with it."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from appliance.core.errors import InputError, Place
from builder.host.paths import source_root
from builder.profile.check import profile_findings
from builder.profile.document import MAXIMUM_BYTES, Document, decode_document
from builder.profile.problem import Finding, Problem, ProfileError, did_you_mean
from builder.profile.review import overdue_findings
from builder.profile.shape import shape_findings
from builder.profile.types import Profile


def load_profile(path_or_name: str) -> Profile:
    """path_or_name: a file, or NAME for profiles/NAME.yaml of this checkout.

    Raises InputError when there is no such file, and ProfileError with every problem of its content.
    """
    path = profile_path(path_or_name)
    return decode_profile(_read(path), file=shown_path(path), stem=path.stem)


def overdue_reviews(path_or_name: str, *, today: datetime.date, release: bool) -> tuple[Problem, ...]:
    """The conduits of a profile that are approved no longer, as warnings.

    Raises what `load_profile` raises, and ProfileError for those conduits when it is for a release.
    """
    path = profile_path(path_or_name)
    data, file = _read(path), shown_path(path)
    profile = decode_profile(data, file=file, stem=path.stem)
    problems = _placed(overdue_findings(profile.network, today=today), decode_document(data, file=file))
    if release and problems:
        raise ProfileError(problems)
    return tuple(problems)


def profile_path(path_or_name: str) -> Path:
    """The file that is meant. Raises InputError when a name is not known; a path is not looked at."""
    if "/" in path_or_name or path_or_name.endswith((".yaml", ".yml")):
        return Path(path_or_name)
    known = profile_names()
    if path_or_name not in known:
        raise InputError(
            f"no profile is called `{path_or_name}`",
            hint=did_you_mean(path_or_name, known, otherwise=f"profiles: {', '.join(known)}; or give a path"),
        )
    return _directory() / f"{path_or_name}.yaml"


def profile_names() -> list[str]:
    """The profiles of this checkout, sorted."""
    return sorted(path.stem for path in _directory().glob("*.yaml"))


def decode_profile(data: bytes, *, file: str, stem: str) -> Profile:
    """The pure part. file: its name for places; stem: what the profile's name must be. Raises ProfileError."""
    document = decode_document(data, file=file)
    problems = [*document.problems, *_placed(shape_findings(document.value, Profile), document)]
    if not problems:
        profile = msgspec.convert(document.value, Profile)
        problems = _placed(profile_findings(profile, stem=stem), document)
    if problems:
        raise ProfileError(sorted(problems, key=lambda problem: problem.place.line or 0))
    return profile


def shown_path(path: Path) -> str:
    """A path as messages show it: relative to the working directory when it is below."""
    absolute = path.absolute()
    here = Path.cwd()
    return os.fspath(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def _directory() -> Path:
    return source_root() / "profiles"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        hint = "give the path of a YAML file, or a profile's name"
        if isinstance(error, FileNotFoundError):
            hint = f"profiles of this checkout: {', '.join(profile_names())}"
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot read the profile: {reason}", place=Place(shown_path(path)), hint=hint) from error


def _placed(findings: Iterable[Finding], document: Document) -> list[Problem]:
    return [Problem(document.place(found.path), found.message, found.hint) for found in findings]
