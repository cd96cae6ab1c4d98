"""The locks in the tree answer the profiles in the tree."""

from __future__ import annotations

import pytest

from builder.cli.lock import read_lock_file
from builder.lock.requests import tools_request, vm_request
from builder.lock.store import lock_path, read_lock
from builder.profile.load import load_profile, profile_names


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_has_a_lock_that_answers_it(name: str) -> None:
    profile = load_profile(name)
    lock, _ = read_lock(lock_path(name), profile)
    assert {f"{wheel.name}=={wheel.version}" for wheel in lock.wheels} >= {
        wheel.lower().replace("_", "-") for wheel in profile.software.wheels
    }
    assert any(package.name.startswith("linux-image-6") for package in lock.packages)


@pytest.mark.parametrize("request_of", [tools_request, vm_request])
def test_the_trees_of_programs_have_locks_that_answer_what_is_asked(request_of) -> None:  # type: ignore[no-untyped-def]
    request = request_of()
    assert read_lock_file(lock_path(request.name)).request == request.digest()


@pytest.mark.parametrize("name", profile_names())
def test_an_image_has_no_shell_and_no_package_tool(name: str) -> None:
    lock, _ = read_lock(lock_path(name), load_profile(name))
    shells = {
        "bash",
        "dash",
        "busybox",
        "zsh",
        "mksh",
        "perl",
        "perl-base",
        "apt",
        "dpkg",
        "coreutils",
        "openssh-server",
    }
    assert not shells & {package.name for package in lock.packages}
