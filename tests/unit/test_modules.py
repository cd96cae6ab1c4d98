"""Kernel modules: what a name pulls in, from depmod's indexes."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.errors import InputError
from builder.rootfs.modules import ModuleIndex, closure, module_name, read_index

FILES = {
    "modules.dep": (
        "kernel/fs/erofs/erofs.ko.xz: kernel/lib/libcrc32c.ko.xz\n"
        "kernel/lib/libcrc32c.ko.xz:\n"
        "kernel/crypto/crc32c_generic.ko.xz:\n"
        "kernel/drivers/net/virtio_net.ko.xz: kernel/net/core/failover.ko.xz\n"
        "kernel/net/core/failover.ko.xz:\n"
    ),
    "modules.softdep": "# a comment\nsoftdep libcrc32c pre: crypto-crc32c post: not-there\n",
    "modules.alias": (
        "# a comment\n"
        "alias crypto-crc32c crc32c_generic\n"
        "alias crypto-crc32c-* crc32c_generic\n"
        "alias of:N*T*Cfoo,bar baz virtio_net\n"  # some patterns hold blanks
        "alias virtio:d00000001v* virtio_net\n"
    ),
    "modules.builtin": "kernel/drivers/virtio/virtio-pci.ko\n",
}


@pytest.fixture
def index(tmp_path: Path) -> ModuleIndex:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return read_index(tmp_path)


def test_names() -> None:
    assert module_name("kernel/drivers/i2c/i2c-dev.ko.xz") == "i2c_dev"
    assert module_name("kernel/fs/erofs/erofs.ko") == "erofs"


def test_hard_and_soft_dependencies_come_along(index: ModuleIndex) -> None:
    assert closure(index, ["erofs"], where="x") == ("crc32c_generic", "erofs", "libcrc32c")


def test_what_is_built_in_needs_no_file(index: ModuleIndex) -> None:
    assert closure(index, ["virtio-pci", "virtio_net"], where="x") == ("failover", "virtio_net")


@pytest.mark.parametrize(
    ("alias", "modules"),
    [
        ("crypto-crc32c", ("crc32c_generic",)),
        ("crypto_crc32c_simd", ("crc32c_generic",)),
        ("virtio:d00000001v00001AF4", ("virtio_net",)),
        ("virtio:d00000002v00001AF4", ()),
        ("of:NxTyCfoo,bar baz", ("virtio_net",)),
        ("erofs", ("erofs",)),
        ("nothing", ()),
    ],
)
def test_aliases(index: ModuleIndex, alias: str, modules: tuple[str, ...]) -> None:
    assert index.resolve(alias) == modules


def test_an_unknown_module_is_refused(index: ModuleIndex) -> None:
    with pytest.raises(InputError, match=r"hardware\.modules: this kernel has no module virtio_nett"):
        closure(index, ["virtio_nett"], where="hardware.modules")
