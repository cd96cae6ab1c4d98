"""Every profile builds on one machine: no emulator, no network, no program of the host but bubblewrap."""

from __future__ import annotations

import json
import platform
import shutil
import struct
from pathlib import Path

import pytest

from builder.archive.pool import Pool
from builder.host.paths import source_root
from builder.lock.codec import decode_lock
from builder.profile.load import load_profile
from tests.integration.build.conftest import BOARDS, BOTH, GROUP
from tests.support.workplace import Workplace, finished

pytestmark = pytest.mark.xdist_group(GROUP)

_HANDLERS = Path("/proc/sys/fs/binfmt_misc")
_MACHINE = {"x86_64": 0x8664, "arm64": 0xAA64}


def pe_machine(data: bytes) -> int:
    """The machine field of a PE file's COFF header."""
    (header,) = struct.unpack_from("<I", data, 0x3C)
    machine: int = struct.unpack_from("<H", data, header + 4)[0]
    return machine


def test_there_is_no_emulator_to_help() -> None:
    handlers = [path.name for path in _HANDLERS.iterdir() if path.name not in ("register", "status")]
    foreign = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    assert not [name for name in handlers if foreign in name], "the kernel would emulate it: the test proves nothing"


def test_nothing_of_the_host_is_on_the_path(plain: Workplace) -> None:
    assert [path.name for path in (plain.root / "bin").iterdir()] == ["bwrap"]


@pytest.mark.parametrize("profile", [*BOTH, *BOARDS])
def test_every_profile_builds(built: Workplace, profile: str) -> None:
    if profile in BOARDS:
        finished(built.build(profile))
    out = built.out(profile)
    manifest = json.loads((out / "manifest.json").read_bytes())
    architecture = load_profile(profile).architecture
    assert manifest["architecture"] == architecture
    assert pe_machine((out / "uki.efi").read_bytes()) == _MACHINE[architecture]


def test_offline_with_an_incomplete_pool_names_what_is_missing(built: Workplace) -> None:
    """The network is away in all these builds; --offline says so before anything is tried."""
    lock = decode_lock((source_root() / "profiles/locks/virtual-arm64.lock.json").read_bytes(), file="lock")
    package = lock.packages[3]
    item, aside = Pool(built.cache / "pool").path(package.sha256), built.root / "aside"
    shutil.move(item, aside)
    try:
        process = built.build("virtual-arm64")
        _said, talk = process.communicate()
    finally:
        shutil.move(aside, item)
    assert process.returncode == 2
    name = package.pool_path.rsplit("/", 1)[1]
    assert talk == (
        f"error: 1 of the lock's items are not in the pool, and --offline was asked: {name} …\n"
        "hint: build once without --offline, or `edgeseal pool import FILE`\n"
    )
