"""Wrong inputs of a build, from the lock to the sandbox: each refusal is exact, and leaves nothing half-written."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import DecodeError, EdgesealError, InputError, VerificationError
from builder.archive.fetch import fetch
from builder.archive.pool import Pool
from builder.archive.transfer import export_pool, import_pool
from builder.host.run import run
from builder.host.sandbox import Sandbox
from builder.lock.codec import decode_lock, encode_lock
from builder.lock.types import Lock, LockedPackage, LockedWheel
from builder.lock.wheels import check_wheel_tags
from builder.rootfs.modules import ModuleIndex, closure

HINT = "locks are written by `edgeseal lock PROFILE`, never by hand"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def package(name: str) -> LockedPackage:
    return LockedPackage(
        name=name,
        version="1.0-1",
        architecture="amd64",
        archive="main",
        pool_path=f"pool/main/{name[0]}/{name}/{name}_1.0-1_amd64.deb",
        size=4,
        sha256=sha(name),
        source=name,
        source_version="1.0-1",
    )


LOCK = Lock(
    name="line-3",
    architecture="x86_64",
    distribution="debian/trixie",
    request=sha("request"),
    epoch=1_700_000_000,
    packages=(package("kmod"), package("udev")),
    wheels=(
        LockedWheel(
            name="msgspec",
            version="0.22.0",
            filename="msgspec-0.22.0-cp313-cp313-manylinux_2_28_x86_64.whl",
            size=5,
            sha256=sha("msgspec"),
        ),
    ),
)


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The lock in canonical form, with one change to its content."""
    value = json.loads(encode_lock(LOCK))
    change(value)
    lines = [
        f" {json.dumps(key)}: {json.dumps(value[key])}" for key in sorted(value) if not isinstance(value[key], list)
    ]
    for key in (key for key in value if isinstance(value[key], list)):
        items = ",\n".join(f"  {json.dumps(item, sort_keys=True)}" for item in value[key])
        lines.append(f' "{key}": [\n{items}\n ]' if items else f' "{key}": []')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def test_the_lock_that_the_rows_change_is_good() -> None:
    assert edited(lambda lock: None) == encode_lock(LOCK)
    assert decode_lock(encode_lock(LOCK), file="x") == LOCK


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a lock: Input data was truncated"),
        (b"{", "not a lock: Input data was truncated"),
        (b"[]", "not a lock: Expected `object`, got `array`"),
        (b"\xff", "not a lock: JSON is malformed: invalid character (byte 0)"),
        (encode_lock(LOCK) + b"\n", "not in canonical form"),
        (encode_lock(LOCK).replace(b"\n  ", b"\n   "), "not in canonical form"),
        (encode_lock(LOCK)[:-3], "not a lock: Input data was truncated"),
        (edited(lambda lock: lock.update(schema=2)), "not a lock: Invalid enum value 2 - at `$.schema`"),
        (edited(lambda lock: lock.update(mirror="x")), "not a lock: Object contains unknown field `mirror`"),
        (edited(lambda lock: lock.pop("epoch")), "not a lock: Object missing required field `epoch`"),
        (edited(lambda lock: lock.update(epoch=0)), "not a lock: Expected `int` >= 1 - at `$.epoch`"),
        (
            edited(lambda lock: lock.update(architecture="riscv64")),
            "not a lock: Invalid enum value 'riscv64' - at `$.architecture`",
        ),
        (
            edited(lambda lock: lock["packages"][0].update(sha256="12")),
            "not a lock: Expected `str` matching regex '^[0-9a-f]{64}(?!\\\\n)$' - at `$.packages[0].sha256`",
        ),
        (
            edited(lambda lock: lock["packages"][0].update(pool_path="../../etc/passwd")),
            "not a lock: Expected `str` matching regex '^pool/[A-Za-z0-9+._~/%-]+\\\\.deb(?!\\\\n)$'"
            " - at `$.packages[0].pool_path`",
        ),
        (
            edited(lambda lock: lock["packages"].reverse()),
            "items are not sorted by name, or one stands twice",
        ),
        (
            edited(lambda lock: lock["packages"].append(lock["packages"][1])),
            "items are not sorted by name, or one stands twice",
        ),
    ],
)
def test_wrong_lock(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_lock(data, file="profiles/locks/line-3.lock.json")
    assert str(refusal.value) == f"profiles/locks/line-3.lock.json: {message}"
    assert (refusal.value.hint, refusal.value.exit_code) == (HINT, 2)


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path / "pool")


def put(pool: Pool, directory: Path, text: str) -> Path:
    source = directory / "incoming"
    source.write_text(text)
    return pool.add(source, sha256=sha(text), what="kmod 34")


def test_an_item_that_was_changed_on_the_disk(pool: Pool, tmp_path: Path) -> None:
    path = put(pool, tmp_path, "good bytes")
    path.write_text("evil bytes")
    with pytest.raises(VerificationError) as refusal:
        pool.open_verified(sha("good bytes"), what="kmod 34")
    assert str(refusal.value) == (
        f"kmod 34 in the pool was changed: sha256 is {sha('evil bytes')}, the lock says {sha('good bytes')}"
    )
    assert refusal.value.hint == f"delete {path} and build again without --offline"
    assert pool.broken_items() == [sha("good bytes")]


def test_an_item_that_is_not_there(pool: Pool) -> None:
    with pytest.raises(InputError) as refusal:
        pool.open_verified(sha("x"), what="kmod 34")
    assert str(refusal.value) == f"kmod 34 is not in the pool (sha256 {sha('x')})"
    assert refusal.value.hint == "build once without --offline, or `edgeseal pool import FILE`"


def test_bytes_of_another_hash_do_not_enter_the_pool(pool: Pool, tmp_path: Path) -> None:
    source = tmp_path / "incoming"
    source.write_text("evil bytes")
    with pytest.raises(VerificationError) as refusal:
        pool.add(source, sha256=sha("good bytes"), what="kmod 34")
    assert str(refusal.value) == f"kmod 34: sha256 is {sha('evil bytes')}, the lock says {sha('good bytes')}"
    assert refusal.value.hint == "the mirror or the file was tampered with, or the lock belongs to another archive"
    assert [path for path in pool.root.rglob("*") if path.is_file()] == []


def test_a_full_disk_leaves_nothing_in_the_pool(pool: Pool, tmp_path: Path) -> None:
    source = tmp_path / "incoming"
    source.mkdir()  # reading it fails after the temporary file is made
    with pytest.raises(EdgesealError) as refusal:
        pool.add(source, sha256=sha("x"), what="kmod 34")
    assert str(refusal.value) == "cannot add kmod 34 to the pool: Is a directory"
    assert [path for path in pool.root.rglob("*") if path.is_file()] == []


def test_offline_with_an_incomplete_pool(pool: Pool) -> None:
    with pytest.raises(InputError) as refusal:
        fetch(LOCK, pool, offline=True)
    assert str(refusal.value) == (
        "3 of the lock's items are not in the pool, and --offline was asked: kmod_1.0-1_amd64.deb …"
    )
    assert refusal.value.hint == "build once without --offline, or `edgeseal pool import FILE`"
    assert not pool.root.exists()


@pytest.mark.parametrize(
    ("filename", "architecture"),
    [
        ("numpy-2.4.6-cp313-cp313-manylinux_2_27_aarch64.whl", "x86_64"),
        ("numpy-2.4.6-cp313-cp313-manylinux_2_27_x86_64.whl", "arm64"),
        ("numpy-2.4.6-cp313-cp313-macosx_14_0_arm64.whl", "arm64"),
        ("numpy-2.4.6-cp313-cp313-win_amd64.whl", "x86_64"),
    ],
)
def test_a_wheel_of_another_architecture(filename: str, architecture: str) -> None:
    with pytest.raises(InputError) as refusal:
        check_wheel_tags(filename, architecture=architecture)
    assert str(refusal.value) == f"{filename} is not for {architecture}"
    assert refusal.value.hint == f"write the lock again for {architecture}: edgeseal lock PROFILE"


def test_wheels_that_fit() -> None:
    check_wheel_tags("numpy-2.4.6-cp313-cp313-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", architecture="x86_64")
    check_wheel_tags("paho_mqtt-2.2.0-py3-none-any.whl", architecture="arm64")


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_pool_to_import_that_is_not_there(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        import_pool(pool, tmp_path / "pool.tar")
    assert str(refusal.value) == f"{tmp_path}/pool.tar: there is no such file"


def test_a_pool_to_import_that_is_no_tar(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "pool.tar").write_text("not a tar")
    with pytest.raises(DecodeError, match=r"pool\.tar: not an exported pool: "):
        import_pool(pool, tmp_path / "pool.tar")


def test_a_pool_to_import_with_something_else_in_it(pool: Pool, tmp_path: Path) -> None:
    source = tar_of(tmp_path / "pool.tar", {"etc/passwd": b"root"})
    with pytest.raises(DecodeError) as refusal:
        import_pool(pool, source)
    assert str(refusal.value) == f"{source}: not an exported pool: it holds etc/passwd"


def test_a_pool_to_import_with_a_changed_item(pool: Pool, tmp_path: Path) -> None:
    source = tar_of(tmp_path / "pool.tar", {f"sha256/{sha('good')}": b"good", f"sha256/{sha('fair')}": b"evil"})
    with pytest.raises(VerificationError) as refusal:
        import_pool(pool, source)
    assert str(refusal.value) == (
        f"item {sha('fair')[:16]}… of pool.tar: sha256 is {sha('evil')}, the lock says {sha('fair')}"
    )
    assert list(pool.items()) == [sha("good")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool", "pool.tar"]
    assert list(pool.root.rglob(".incoming-*")) == []


def test_a_pool_that_was_changed_is_not_exported(pool: Pool, tmp_path: Path) -> None:
    put(pool, tmp_path, "good bytes").write_text("evil bytes")
    with pytest.raises(VerificationError):
        export_pool(pool, [sha("good bytes")], tmp_path / "pool.tar", epoch=1)
    assert not [path for path in tmp_path.iterdir() if "pool.tar" in path.name]


def test_a_module_that_the_kernel_does_not_have() -> None:
    index = ModuleIndex(
        paths={"erofs": "kernel/fs/erofs.ko"},
        dependencies={"erofs": ()},
        soft={},
        aliases=(),
        builtin=frozenset({"tpm_crb"}),
    )
    assert closure(index, ["erofs", "tpm-crb"], where="hardware.modules") == ("erofs",)
    with pytest.raises(InputError) as refusal:
        closure(index, ["erosf"], where="hardware.modules")
    assert str(refusal.value) == "hardware.modules: this kernel has no module erosf"
    assert refusal.value.hint == "names are those of `modinfo`, without .ko"


def test_no_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError) as refusal:
        Sandbox(root=tmp_path, epoch=1).command(["true"])
    assert (str(refusal.value), refusal.value.hint) == ("bubblewrap is not installed", "apt-get install bubblewrap")


def test_a_program_that_is_not_installed() -> None:
    with pytest.raises(EdgesealError) as refusal:
        run(["no-such-program"], reason="compute the hash tree")
    assert str(refusal.value) == "cannot compute the hash tree: no-such-program is not installed"
    assert refusal.value.hint == "install the package that has no-such-program"


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(EdgesealError) as refusal:
        run(["ls", "/nonexistent-directory"], reason="list a directory")
    assert str(refusal.value) == (
        "cannot list a directory: ls exited 2: ls: cannot access '/nonexistent-directory': No such file or directory"
    )
    assert refusal.value.hint == "rerun it by hand: ls /nonexistent-directory"
