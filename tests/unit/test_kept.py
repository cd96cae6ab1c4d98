"""Least function: a program, unit, rule or fragment that nobody named is not in the image."""

from __future__ import annotations

import pytest

from builder.rootfs.kept import keep_of_package, keep_of_wheel

SYSTEM = "usr/lib/systemd/system"
KEPT = [
    "usr/bin/python3.13",
    "usr/lib/systemd/systemd",
    "usr/lib/systemd/systemd-veritysetup",
    "usr/lib/systemd/system-generators/systemd-veritysetup-generator",
    "usr/lib/udev/rules.d/99-systemd.rules",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/aarch64-linux-gnu/libcrypto.so.3",
    "usr/lib/python3.13/json/decoder.py",
    "usr/sbin/nft",
    "etc/mke2fs.conf",
    f"{SYSTEM}/systemd-networkd.service",
    f"{SYSTEM}/sysinit.target.wants/systemd-sysctl.service",
]
DROPPED = [
    # programs
    "usr/bin/bash",
    "usr/bin/perl",
    "usr/bin/dpkg",
    "usr/bin/su",
    "usr/bin/busctl",
    "usr/sbin/agetty",
    "usr/libexec/anything",
    # what starts something
    f"{SYSTEM}/getty@.service",
    f"{SYSTEM}/debug-shell.service",
    f"{SYSTEM}/multi-user.target.wants/e2scrub_reap.service",
    f"{SYSTEM}/proc-sys-fs-binfmt_misc.automount",
    "usr/lib/systemd/system-generators/systemd-getty-generator",
    "usr/lib/systemd/system-generators/systemd-ssh-generator",
    "usr/lib/systemd/systemd-sulogin-shell",
    "usr/lib/systemd/system-sleep/hook",
    "usr/lib/tmpfiles.d/provision.conf",
    "usr/lib/udev/rules.d/60-autosuspend.rules",
    "usr/lib/sysusers.d/basic.conf",
    "etc/cron.daily/dpkg",
    "etc/profile",
    # what only fills space
    "usr/share/doc/systemd/copyright",
    "usr/lib/python3.13/test/test_os.py",
    "usr/lib/python3.13/__pycache__/os.cpython-313.pyc",
    "usr/lib/x86_64-linux-gnu/gconv/UTF-7.so",
    "usr/lib/modules/6.12.1/kernel/fs/ext4/ext4.ko.xz",
    "usr/include/stdio.h",
    "var/lib/dpkg/status",
    "boot/vmlinuz-6.12.1",
]


@pytest.mark.parametrize("path", KEPT)
def test_kept(path: str) -> None:
    assert keep_of_package(path)


@pytest.mark.parametrize("path", DROPPED)
def test_dropped(path: str) -> None:
    assert not keep_of_package(path)


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("numpy/_core/_multiarray_umath.cpython-313-x86_64-linux-gnu.so", True),
        ("numpy/__init__.py", True),
        ("onnxruntime/capi/onnxruntime_pybind11_state.so", True),
        ("numpy-2.4.6.dist-info/METADATA", True),
        ("numpy/tests/test_all.py", False),
        ("numpy/f2py/__init__.py", False),
        ("numpy/_core/include/numpy/arrayobject.h", False),
        ("onnxruntime/transformers/optimizer.py", False),
        ("onnxruntime/quantization/quantize.py", False),
        ("msgspec/__init__.pyi", False),
        ("numpy-2.4.6.dist-info/RECORD", False),
        ("tuf/ngclient/updater.py", True),
        ("tuf/repository/_repository.py", False),
        ("urllib3/util/retry.py", True),
        ("urllib3/http2/probe.py", True),
        ("urllib3/http2/connection.py", False),
        ("urllib3/contrib/socks.py", False),
        ("securesystemslib/_vendor/ed25519/ed25519.py", True),
        ("securesystemslib/_vendor/ed25519/test_data/ed25519", False),
        ("securesystemslib/_vendor/ed25519/test_ed25519.py", False),
        ("securesystemslib/_vendor/test-ed25519-upstream.sh", False),
    ],
)
def test_wheels(path: str, kept: bool) -> None:
    assert keep_of_wheel(path) is kept
