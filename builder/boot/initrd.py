"""The initrd: a systemd that opens dm-verity, mounts the root and hands over. Nothing else is in it.

Binaries come from the base layer; their libraries are followed through the ELF headers and the dlopen notes.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from tempfile import TemporaryDirectory

import zstandard

from builder.archive.pool import Pool
from builder.archive.stepcache import cached_file, code_digest, key_of
from builder.boot import cpio
from builder.host.sandbox import Sandbox
from builder.lock.codec import encode_lock
from builder.lock.types import Lock
from builder.profile.types import Profile
from builder.rootfs import elf, files, layers, modules
from builder.rootfs.entries import Directory, File, RootPlan, Symlink, text
from builder.rootfs.tree import scan, write_tree

ZSTD_LEVEL = 12  # 9.64 MB in 1.4 s; 19 gives 8.68 MB in 10 s (docs/reference/benchmarks.md)

_COMMON_MODULES = ("dm_mod", "dm_verity", "efivarfs", "erofs", "crc32c_generic", "sha256_generic")
_PROGRAMS = (
    "usr/bin/journalctl",
    "usr/bin/kmod",
    "usr/bin/mount",
    "usr/bin/systemctl",
    "usr/bin/systemd-tmpfiles",
    "usr/bin/udevadm",
    "usr/bin/umount",
    "usr/sbin/dmsetup",
    "usr/lib/systemd/system-generators/systemd-fstab-generator",
    "usr/lib/systemd/system-generators/systemd-veritysetup-generator",
    "usr/lib/systemd/systemd",
    "usr/lib/systemd/systemd-cgroups-agent",
    "usr/lib/systemd/systemd-executor",
    "usr/lib/systemd/systemd-journald",
    "usr/lib/systemd/systemd-modules-load",
    "usr/lib/systemd/systemd-pcrextend",
    "usr/lib/systemd/systemd-shutdown",
    "usr/lib/systemd/systemd-sysctl",
    "usr/lib/systemd/systemd-sysroot-fstab-check",
    "usr/lib/systemd/systemd-udevd",
    "usr/lib/systemd/systemd-veritysetup",
)
# Opened at run time, and only suggested by the dlopen notes: without them no boot phase is measured.
_LOADERS = ("usr/lib64/ld-linux-x86-64.so.2", "usr/lib/ld-linux-aarch64.so.1")
_LIBRARIES = ("libtss2-esys.so.0", "libtss2-mu.so.0", "libtss2-rc.so.0", "libtss2-tcti-device.so.0")
_UNITS = """basic.target emergency.service emergency.target final.target initrd-cleanup.service initrd-fs.target
    initrd-parse-etc.service initrd-root-device.target initrd-root-fs.target initrd-switch-root.service
    initrd-switch-root.target initrd-udevadm-cleanup-db.service initrd-usr-fs.target initrd.target
    kmod-static-nodes.service local-fs-pre.target local-fs.target modprobe@.service paths.target
    reboot.target rescue.service rescue.target shutdown.target slices.target sockets.target swap.target
    sysinit.target systemd-journald-dev-log.socket systemd-journald.service systemd-journald.socket
    systemd-modules-load.service systemd-pcrphase-initrd.service systemd-reboot.service
    systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup.service
    systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket
    systemd-udevd.service timers.target umount.target veritysetup-pre.target veritysetup.target
    system-systemd\\x2dveritysetup.slice""".split()
_WANTS = {
    "initrd.target.wants": ("systemd-pcrphase-initrd.service",),
    "sockets.target.wants": (
        "systemd-journald-dev-log.socket",
        "systemd-journald.socket",
        "systemd-udevd-control.socket",
        "systemd-udevd-kernel.socket",
    ),
    "sysinit.target.wants": (
        "kmod-static-nodes.service",
        "systemd-journald.service",
        "systemd-modules-load.service",
        "systemd-tmpfiles-setup-dev-early.service",
        "systemd-tmpfiles-setup-dev.service",
        "systemd-tmpfiles-setup.service",
        "systemd-udev-trigger.service",
        "systemd-udevd.service",
        "veritysetup.target",
    ),
}
_UDEV_RULES = (
    "50-udev-default.rules",
    "55-dm.rules",
    "60-block.rules",
    "60-persistent-storage-dm.rules",
    "60-persistent-storage.rules",
    "80-drivers.rules",
    "95-dm-notify.rules",
    "99-systemd.rules",
)
_UNIT_DIRECTORY = "usr/lib/systemd/system"


def make_initrd(profile: Profile, lock: Lock, pool: Pool, tools: Sandbox) -> Path:
    """The compressed archive, kept by its inputs."""
    base = layers.base_layer(profile, lock, pool, tools)
    wanted = (*_COMMON_MODULES, *profile.hardware.initrd_modules)
    settings: RootPlan = {
        "usr/lib/systemd/system.conf.d/edgeseal.conf": files.manager_settings(profile, initrd=True),
        f"{_UNIT_DIRECTORY}/initrd.target.d/edgeseal.conf": files.boot_deadline(2 * profile.timeout_s),
        # at once, and not when the wait for the root's device is over
        f"{_UNIT_DIRECTORY}/systemd-veritysetup@.service.d/edgeseal.conf": text(
            "[Unit]", "OnFailure=emergency.target", "OnFailureJobMode=replace-irreversibly"
        ),
    }
    key = key_of(
        base.name,
        encode_lock(lock),
        repr((sorted(wanted), ZSTD_LEVEL)),
        layers.plan_digest(settings),
        code_digest([cpio, elf, files, modules]),
        Path(__file__).read_bytes(),
    )

    def make(target: Path) -> None:
        _, version = layers.kernel_tree(lock, pool)
        plan = _plan(base) | settings
        plan |= layers.module_plan(lock, pool, tools, wanted, where="hardware.initrd_modules")
        index = _module_index(plan, version, tools, target.parent)
        archive = cpio.write_cpio(plan | index, epoch=lock.epoch)
        # threads: any number gives the same bytes, because the job size is fixed by the level
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=2, write_checksum=True)
        target.write_bytes(compressor.compress(archive))

    return cached_file("initrd", key, make)


def _plan(base: Path) -> RootPlan:
    plan: RootPlan = {name: Directory() for name in ("dev", "proc", "run", "sys", "sysroot", "tmp", "var", "root")}
    plan |= {name: Symlink(f"usr/{name}") for name in ("bin", "lib", "sbin")}
    plan["lib64"] = Symlink("usr/lib64")
    plan["init"] = Symlink("usr/lib/systemd/systemd")
    plan["etc/initrd-release"] = text("ID=edgeseal", "NAME=edgeseal", 'PRETTY_NAME="edgeseal initrd"')
    plan["etc/os-release"] = Symlink("initrd-release")
    plan["etc/machine-id"] = File(content=b"")
    plan["usr/sbin/modprobe"] = Symlink("../bin/kmod")
    plan["etc/modules-load.d/edgeseal.conf"] = text("dm_verity", "erofs", "efivarfs", "i6300esb")
    for name in ("passwd", "group", "nsswitch.conf"):
        plan[f"etc/{name}"] = File(source=base / "etc" / name)
    for name in _UDEV_RULES:
        plan[f"usr/lib/udev/rules.d/{name}"] = File(source=base / "usr/lib/udev/rules.d" / name)
    for name in ("20-systemd-stub.conf", "static-nodes-permissions.conf"):
        plan[f"usr/lib/tmpfiles.d/{name}"] = File(source=base / "usr/lib/tmpfiles.d" / name)
    plan |= _unit_plan(base)
    plan |= _program_plan(base)
    return plan


def _unit_plan(base: Path) -> RootPlan:
    plan: RootPlan = {f"{_UNIT_DIRECTORY}/{name}": File(source=base / _UNIT_DIRECTORY / name) for name in _UNITS}
    for folder, names in _WANTS.items():
        plan |= {f"{_UNIT_DIRECTORY}/{folder}/{name}": Symlink(f"../{name}") for name in names}
    plan[f"{_UNIT_DIRECTORY}/default.target"] = Symlink("initrd.target")
    plan[f"{_UNIT_DIRECTORY}/ctrl-alt-del.target"] = Symlink("/dev/null")
    return plan


def _program_plan(base: Path) -> RootPlan:
    """Programs, their loader, and every library that they need, under the names that they ask for."""
    directories = _library_directories(base)

    def find(name: str) -> Path | None:
        return next((Path(d, name) for d in directories if (base / d / name).exists()), None)

    opened = [str(place) for name in _LIBRARIES if (place := find(name)) is not None]
    libraries = elf.closure([*_PROGRAMS, *opened], find, lambda path: base / path)
    loaders = [path for path in _LOADERS if (base / path).exists()]
    plan: RootPlan = {}
    queue = [*_PROGRAMS, *opened, *libraries, *loaders]
    while queue:
        path = queue.pop()
        if (base / path).is_symlink():
            target = str((base / path).readlink())
            plan[path] = Symlink(target)
            queue.append(posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/"))
        else:
            plan[path] = File(source=base / path, mode=0o755)
    return plan


def _library_directories(base: Path) -> list[str]:
    """Where the loader looks, systemd's private one included."""
    found = sorted(path for path in (base / "usr/lib").glob("*-linux-gnu"))
    return [str(path.relative_to(base)) for place in found for path in (place, place / "systemd") if path.is_dir()]


def _module_index(plan: RootPlan, version: str, tools: Sandbox, scratch: Path) -> RootPlan:
    """depmod's indexes for just these modules."""
    with TemporaryDirectory(dir=scratch) as name:
        directory = Path(name)
        base = f"usr/lib/modules/{version}/"
        write_tree({path: entry for path, entry in plan.items() if path.startswith(base)}, directory)
        (directory / "lib").symlink_to("usr/lib")
        tools.run(["depmod", "-b", directory, version], reason="index the initrd's modules", writable=[directory])
        return {
            path: File(content=entry.read())
            for path, entry in scan(directory).items()
            if isinstance(entry, File) and path.startswith(base + "modules.")
        }
