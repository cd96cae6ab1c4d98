"""assemble: the whole root tree of an image."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from builder.archive.pool import Pool
from builder.archive.stepcache import cached_directory, code_digest, key_of
from builder.host.paths import source_root
from builder.host.sandbox import Sandbox
from builder.lock.types import Lock
from builder.model.card import Model
from builder.profile.types import Profile
from builder.rootfs import entries, files, layers, pycompile, tree
from builder.rootfs.entries import File, RootPlan
from builder.rootfs.files import Sealed


@dataclass(frozen=True)
class RootTree:
    """A finished root. path: the directory; kernel_version: of its modules; digest: over every path, mode and byte."""

    path: Path
    kernel_version: str
    digest: str


def appliance_plan(*, test_agent: bool) -> RootPlan:
    """The device's Python, without the test agent unless the profile is for development."""
    base = source_root() / "appliance"
    return {
        f"{layers.SITE}/appliance/{path.relative_to(base)}": File(source=path)
        for path in sorted(base.rglob("*.py"))
        if test_agent or "agent" not in path.relative_to(base).parts
    }


def model_plan(models: tuple[Model, ...]) -> RootPlan:
    """Each model and its card."""
    plan: RootPlan = {}
    for model in models:
        plan[f"usr/lib/edgeseal/models/{model.name}/model.onnx"] = File(content=model.onnx)
        plan[f"usr/lib/edgeseal/models/{model.name}/model.json"] = File(content=model.card_bytes)
    return plan


def assemble(
    profile: Profile, lock: Lock, pool: Pool, tools: Sandbox, *, sealed: Sealed, models: tuple[Model, ...]
) -> RootTree:
    """Base layer plus what is ours. Kept by the hash of both."""
    base = layers.base_layer(profile, lock, pool, tools)
    version = layers.find_package(lock, "linux-image-6").name.removeprefix("linux-image-")
    top = (
        appliance_plan(test_agent=profile.development.test_agent)
        | model_plan(models)
        | files.profile_files(profile, sealed)
    )
    key = key_of(base.name, layers.plan_digest(top), code_digest([entries, tree, pycompile]))

    def make(target: Path) -> None:
        tree.write_tree(tree.scan(base), target)
        for path in top:
            (target / path).unlink(missing_ok=True)
        tree.write_tree(top, target)
        for name in ("shadow", "gshadow"):
            shutil.copyfile(base / "etc" / name, target / "etc" / f".{name}")
            (target / "etc" / f".{name}").replace(target / "etc" / name)
            (target / "etc" / name).chmod(0o400)
        (target / "root").chmod(0o700)
        layers.compile_python(target, [path for path in sorted(top) if path.endswith(".py")], tools)

    return RootTree(path=cached_directory("root", key, make), kernel_version=version, digest=key)
