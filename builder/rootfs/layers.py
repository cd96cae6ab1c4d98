"""The base layer of a root: packages, wheels, modules, units, finished; kept by its inputs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from appliance.core.errors import EdgesealError, InputError
from builder.archive import debian
from builder.archive.pool import Pool
from builder.archive.stepcache import cached_directory, code_digest, key_of
from builder.host.paths import source_root
from builder.host.sandbox import Sandbox
from builder.lock.codec import encode_lock
from builder.lock.types import Lock, LockedPackage, LockedWheel
from builder.profile.types import Profile
from builder.rootfs import elf, entries, files, kept, modules, pycompile, tree
from builder.rootfs.entries import Directory, File, RootPlan, Symlink

SITE = "usr/lib/python3/dist-packages"
_COMMON_MODULES = (
    "dm_crypt",
    "dm_mod",
    "dm_verity",
    "efivarfs",
    "erofs",
    "ext4",
    "loop",
    "nf_tables",
    "nft_ct",
    "nft_limit",
    "nfnetlink_log",
    "nft_log",
    "nls_ascii",
    "nls_cp437",
    "sha256_generic",
    "vfat",
    "xts",
)


def package_tree(package: LockedPackage, pool: Pool) -> Path:
    """A package unpacked whole, kept by its hash."""

    def make(target: Path) -> None:
        deb = pool.open_verified(package.sha256, what=f"{package.name} {package.version}")
        debian.unpack_deb(deb, target)

    return cached_directory("deb", key_of(package.sha256, code_digest([debian])), make)


def wheel_tree(wheel: LockedWheel, pool: Pool) -> Path:
    """A wheel unpacked whole, kept by its hash."""

    def make(target: Path) -> None:
        debian.unpack_wheel(pool.open_verified(wheel.sha256, what=wheel.filename), target)

    return cached_directory("wheel", key_of(wheel.sha256, code_digest([debian])), make)


def find_package(lock: Lock, prefix: str) -> LockedPackage:
    """The one package whose name begins so."""
    found = [package for package in lock.packages if package.name.startswith(prefix)]
    if len(found) != 1:
        raise InputError(f"the lock of {lock.name} has {len(found)} packages named {prefix}…, expected one")
    return found[0]


def kernel_tree(lock: Lock, pool: Pool) -> tuple[Path, str]:
    """The unpacked kernel package, and the kernel's version."""
    package = find_package(lock, "linux-image-6")
    return package_tree(package, pool), package.name.removeprefix("linux-image-")


def kernel_index(lock: Lock, pool: Pool, tools: Sandbox) -> modules.ModuleIndex:
    """What depmod says of all modules of the kernel package."""
    kernel, version = kernel_tree(lock, pool)
    modules_directory = Path("usr/lib/modules") / version

    def make(target: Path) -> None:
        output = target / "lib/modules" / version
        output.mkdir(parents=True)
        tools.run(
            ["depmod", "-b", "/kernel", "-o", target, version],
            reason="index the kernel's modules",
            writable=[target],
            binds={kernel / "usr/lib": "/kernel/lib"},
        )
        for name in ("modules.dep", "modules.softdep", "modules.alias"):
            (output / name).replace(target / name)
        shutil.copyfile(kernel / modules_directory / "modules.builtin", target / "modules.builtin")
        shutil.rmtree(target / "lib")

    return modules.read_index(cached_directory("kernel-index", key_of(kernel.name, tools.root.name), make))


def module_plan(lock: Lock, pool: Pool, tools: Sandbox, names: Iterable[str], *, where: str) -> RootPlan:
    """The files of the chosen modules, and what depmod needs to index them again."""
    kernel, version = kernel_tree(lock, pool)
    directory = kernel / "usr/lib/modules" / version
    index = kernel_index(lock, pool, tools)
    base = f"usr/lib/modules/{version}"
    plan: RootPlan = {
        f"{base}/{name}": File(source=directory / name)
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order")
    }
    for name in modules.closure(index, names, where=where):
        plan[f"{base}/{index.paths[name]}"] = File(source=directory / index.paths[name])
    return plan


def unit_plan(*, test_agent: bool) -> RootPlan:
    """The units of our services, their users and directories."""
    targets = {
        ".service": "system",
        ".socket": "system",
        ".path": "system",
        ".target": "system",
        ".slice": "system",
        ".preset": "system-preset",
    }
    plan: RootPlan = {}
    for file in sorted((source_root() / "appliance/units").iterdir()):
        if "agent" in file.name and not test_agent:
            continue
        if file.suffix == ".rules":
            plan[f"usr/lib/udev/rules.d/{file.name}"] = File(source=file)
        elif file.suffix in targets:
            plan[f"usr/lib/systemd/{targets[file.suffix]}/{file.name}"] = File(source=file)
        elif file.name.endswith((".sysusers", ".tmpfiles")):
            kind = file.suffix[1:]
            plan[f"usr/lib/{kind}.d/{file.stem}.conf"] = File(source=file)
    return plan


def base_layer(profile: Profile, lock: Lock, pool: Pool, tools: Sandbox) -> Path:
    """Packages, wheels, modules, units and static files, finished (users, presets, module index, bytecode)."""
    own = files.static_files() | files.skeleton() | unit_plan(test_agent=profile.development.test_agent)
    wanted = tuple(sorted({*_COMMON_MODULES, *profile.hardware.modules}))
    firmware = tuple(sorted(profile.hardware.firmware))
    key = key_of(
        encode_lock(lock),
        code_digest([debian, elf, entries, files, kept, modules, pycompile, tree]),
        str(tools.root.name),
        repr((wanted, firmware)),
        plan_digest(own),
        Path(__file__).read_bytes(),
    )

    def make(target: Path) -> None:
        _unpack_beside_each_other(lock, pool, tools)
        plan = _package_plan(lock, pool, firmware) | _wheel_plan(profile, lock, pool)
        _, version = kernel_tree(lock, pool)
        plan |= module_plan(lock, pool, tools, wanted, where="hardware.modules")
        tree.write_tree(plan | own, target)
        _finish(target, version, tools)
        _check_libraries(target, profile.architecture)

    return cached_directory("base", key, make)


def _check_libraries(target: Path, architecture: str) -> None:
    for path, names in elf.missing_libraries(target, architecture=architecture).items():
        absent = [name for name in names if name not in kept.FROM_THE_BOARD]
        if not absent:
            continue
        raise EdgesealError(
            f"/{path} needs {', '.join(absent)}, which is not in the image",
            hint="the package that has it is missing from the lock, or builder/rootfs/kept.py drops it",
        )


def _unpack_beside_each_other(lock: Lock, pool: Pool, tools: Sandbox) -> None:
    """Fill the step cache on both cores: depmod takes as long over the kernel as the other packages take to unpack."""
    with ThreadPoolExecutor(max_workers=2) as workers:
        jobs: list[Future[object]] = [workers.submit(kernel_index, lock, pool, tools)]
        jobs += [workers.submit(wheel_tree, wheel, pool) for wheel in lock.wheels]
        jobs += [workers.submit(package_tree, package, pool) for package in lock.packages if not _is_kernel(package)]
        try:
            for job in jobs:
                job.result()
        finally:
            workers.shutdown(cancel_futures=True)


def _is_kernel(package: LockedPackage) -> bool:
    return package.name.startswith("linux-image-")


def _package_plan(lock: Lock, pool: Pool, firmware: tuple[str, ...]) -> RootPlan:
    plan: RootPlan = {
        "usr/lib/edgeseal/dpkg-status": _dpkg_status(lock, pool),
        "var/lib/dpkg/status": Symlink("../../../usr/lib/edgeseal/dpkg-status"),  # where scanners of images look
    }
    for package in lock.packages:
        if _is_kernel(package):
            continue
        for path, entry in tree.scan(package_tree(package, pool)).items():
            chosen = path.removeprefix("usr/lib/firmware/").startswith(firmware) if firmware else False
            if path.startswith("usr/lib/firmware/"):
                if chosen:
                    plan[path] = entry
            elif not isinstance(entry, Directory) and kept.keep_of_package(path):
                plan[path] = entry
    return plan


def _dpkg_status(lock: Lock, pool: Pool) -> File:
    """dpkg's list of what is installed, for scanners; there is no dpkg to change it."""
    stanzas = []
    for package in lock.packages:
        control = debian.control_files(pool.open_verified(package.sha256, what=package.name))["control"].decode()
        head, _, rest = control.partition("\n")
        stanzas.append(f"{head}\nStatus: install ok installed\n{rest.rstrip()}\n")
    return File(content="\n".join(stanzas).encode())


def _wheel_plan(profile: Profile, lock: Lock, pool: Pool) -> RootPlan:
    models = {model.wheel.split("==")[0].lower().replace("_", "-") for model in profile.software.models}
    return {
        f"{SITE}/{path}": entry
        for wheel in lock.wheels
        if wheel.name not in models
        for path, entry in tree.scan(wheel_tree(wheel, pool)).items()
        if not isinstance(entry, Directory) and kept.keep_of_wheel(path)
    }


def _finish(target: Path, version: str, tools: Sandbox) -> None:
    tools.run(["depmod", "-b", target, version], reason="index the chosen modules", writable=[target])
    tools.run(["systemd-sysusers", f"--root={target}"], reason="make the system users", writable=[target])
    tools.run(["systemctl", f"--root={target}", "preset-all"], reason="enable the units", writable=[target])
    sources = sorted(str(path.relative_to(target)) for path in (target / "usr/lib").glob("python3*/**/*.py"))
    compile_python(target, sources, tools)
    for leftover in (".pwd.lock", "passwd-", "group-", "shadow-", "gshadow-", "systemd/user"):
        (target / "etc" / leftover).unlink(missing_ok=True) if not (target / "etc" / leftover).is_dir() else None
    for secret in ("shadow", "gshadow"):
        (target / "etc" / secret).chmod(0o400)


def compile_python(target: Path, sources: list[str], tools: Sandbox) -> None:
    """Bytecode beside each source. sources: paths relative to `target`."""
    script = source_root() / "builder/rootfs/pycompile.py"
    tools.run(
        ["python3", "-I", script, target],
        reason="compile the Python files",
        writable=[target],
        binds={script: None},
        stdin="".join(f"{path}\n" for path in sources).encode(),
    )


def plan_digest(plan: RootPlan) -> str:
    """One hash over a plan: paths, kinds, modes, bytes."""
    parts: list[str | bytes] = []
    for path, entry in sorted(plan.items()):
        parts += [path, type(entry).__name__, str(getattr(entry, "mode", ""))]
        parts.append(entry.read() if isinstance(entry, File) else getattr(entry, "target", ""))
    return key_of(*parts)
