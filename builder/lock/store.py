"""Where locks stand, and whether one fits its profile."""

from __future__ import annotations

from pathlib import Path

from appliance.core.errors import InputError, Place
from builder.host.paths import source_root
from builder.lock.codec import decode_lock
from builder.lock.requests import profile_request
from builder.lock.types import Lock
from builder.lock.wheels import check_wheel_tags
from builder.profile.types import Profile


def lock_path(name: str) -> Path:
    """The committed lock of a profile or a tree."""
    return source_root() / "profiles" / "locks" / f"{name}.lock.json"


def shown(path: Path) -> str:
    """A path as messages say it: from the checkout's top where it is inside."""
    return str(path.relative_to(source_root())) if path.is_relative_to(source_root()) else str(path)


def read_lock(path: Path, profile: Profile) -> tuple[Lock, bytes]:
    """The lock for a profile, and its bytes.

    Raises InputError when it is missing, belongs to another profile, or answers an older one; DecodeError when it is
    no lock.
    """
    file = shown(path)
    write = f"write it: edgeseal lock {profile.name}"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"there is no lock for profile {profile.name}", place=Place(file), hint=write) from error
    lock = decode_lock(data, file=file)
    if lock.name != profile.name:
        raise InputError(
            f"this is the lock of {lock.name}, the profile is {profile.name}", place=Place(file), hint=write
        )
    if lock.architecture != profile.architecture:
        raise InputError(
            f"this lock is for {lock.architecture}, the profile for {profile.architecture}",
            place=Place(file),
            hint=write,
        )
    for wheel in lock.wheels:
        check_wheel_tags(wheel.filename, architecture=lock.architecture)
    if lock.request != profile_request(profile).digest():
        raise InputError(
            f"this lock answers an older form of profile {profile.name}: its packages or wheels changed since",
            place=Place(file),
            hint=f"write it again and look at the difference: edgeseal lock {profile.name}",
        )
    return lock, data
