"""What is in the image of virtual-x86_64, as `edgeseal inspect` sees it (issue 2, Floors: small and quiet)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from builder.archive.pool import Pool
from builder.host.paths import source_root
from builder.host.toolstree import tools_tree
from builder.image.seal import seal
from builder.lock.codec import decode_lock
from builder.pipeline import seal_secrets
from builder.profile.load import load_profile
from builder.rootfs.assemble import assemble
from tests.integration.build.conftest import GROUP
from tests.support.keys import keyset
from tests.support.workplace import Workplace, finished

pytestmark = pytest.mark.xdist_group(GROUP)

MB = 1_000_000
SERVICES = ("audit", "health", "inference", "network", "recovery-escrow", "uplink")
FORBIDDEN = {
    *("sh", "bash", "dash", "busybox", "perl", "dpkg", "apt", "apt-get", "rpm", "pip", "pip3", "su", "sudo", "login"),
    *("agetty", "getty", "ssh", "sshd", "gdb", "strace", "curl", "wget", "nc"),
}


@pytest.fixture(scope="module")
def inspected(built: Workplace) -> dict[str, Any]:
    """`edgeseal inspect DIR --json`."""
    overview: dict[str, Any] = json.loads(finished(built.start("inspect", built.out("virtual-x86_64"), "--json")))
    return overview


def test_there_is_nothing_to_find(inspected: dict[str, Any]) -> None:
    assert inspected["findings"] == []
    assert (inspected["setuid"], inspected["setgid"], inspected["world_writable"]) == ([], [], [])
    assert inspected["file_capabilities"] == {}
    assert not FORBIDDEN & {Path(program).name for program in inspected["programs"]}


def test_nothing_listens_on_a_network(inspected: dict[str, Any]) -> None:
    assert {socket["family"] for socket in inspected["sockets"]} <= {"unix", "netlink"}


def test_nobody_can_log_in(inspected: dict[str, Any]) -> None:
    assert not [unit for unit in inspected["units"] if "getty" in unit or "ssh" in unit]
    assert {user["shell"] for user in inspected["users"]} <= {"/usr/sbin/nologin", "/bin/false"}


def test_sizes(inspected: dict[str, Any]) -> None:
    sizes = inspected["image"]["sizes"]
    assert sizes["root.erofs"] <= 105 * MB
    assert sizes["uki.efi"] <= 22 * MB


def test_each_service_is_in_a_tight_sandbox(inspected: dict[str, Any]) -> None:
    """`systemd-analyze security`, in tenths."""
    exposure = {service["unit"]: service["exposure_tenths"] for service in inspected["services"]}
    ours = {name: exposure[f"edgeseal-{name}.service"] for name in SERVICES}
    assert {name: tenths for name, tenths in ours.items() if tenths is None or tenths > 20} == {}


def test_the_root_without_the_inference_stack(plain: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages, units and our services; no wheel and no model."""
    profile, lock = _without_inference("virtual-x86_64")
    pool = Pool(plain.cache / "pool")
    tools = tools_tree()
    monkeypatch.setenv("EDGESEAL_CACHE", str(plain.cache))
    root = assemble(profile, lock, pool, tools, sealed=seal_secrets(keyset(), release=False), models=())
    assert seal(profile, root, tools, epoch=lock.epoch).data_size <= 52 * MB


def _without_inference(name: str) -> tuple[Any, Any]:
    profile = load_profile(name)
    path = source_root() / "profiles" / "locks" / f"{name}.lock.json"
    lock = decode_lock(path.read_bytes(), file=path.name)
    software = msgspec.structs.replace(profile.software, wheels=(), models=())
    return msgspec.structs.replace(profile, software=software), msgspec.structs.replace(lock, wheels=())
